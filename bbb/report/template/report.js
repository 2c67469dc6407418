"use strict";
(async () => {
  const held = (id) => document.getElementById(id).textContent;
  const drawn = JSON.parse(held("drawn"));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const print = matchMedia("print");
  const PAGE = 680; // the width of a printed page without its margins, in CSS pixels
  let printing = false;

  const onPaper = () => printing || print.matches;
  const palette = () => (dark.matches && !onPaper() ? drawn.dark : drawn.light);

  // A colour is the name of one of the palette; all else stays what it is, as a town may be called "--ink".
  const coloured = (value, colors, key = "") => {
    if (typeof value === "string") return key.endsWith("color") && value in colors ? colors[value] : value;
    if (Array.isArray(value)) return value.map((part) => coloured(part, colors));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, coloured(part, colors, name)]));
  };

  const axis = (given, colors, narrow) => ({
    gridcolor: colors["--rule"], linecolor: colors["--rule"], zeroline: false, automargin: true, fixedrange: true,
    tickfont: { color: colors["--muted"], size: 12 }, ...given,
    nticks: narrow ? 5 : 8,
    title: { ...given.title, font: { color: colors["--muted"], size: 13 }, standoff: 10 },
  });

  const traceOf = (trace, colors) => {
    const made = coloured(trace, colors);
    if (made.rows) made.text = made.rows.map((row) => drawn.rows[row]);
    delete made.rows;
    return made;
  };

  const draw = (name, given) => {
    const colors = palette();
    const box = document.getElementById(name);
    const width = onPaper() ? PAGE : box.clientWidth;
    const font = { family: getComputedStyle(document.body).fontFamily, size: 13, color: colors["--ink"] };
    const height = given.layout.height * (onPaper() ? 0.8 : 1);
    const layout = {
      ...coloured(given.layout, colors), width, height, font, autosize: false, dragmode: false, hovermode: "closest",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 44, r: 12, t: 8, b: 44, pad: 4 }, hoverdistance: 24,
      legend: { orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom", font: { color: colors["--ink"], size: 13 }, itemclick: false, itemdoubleclick: false },
      hoverlabel: { bgcolor: colors["--soft"], bordercolor: colors["--muted"], font: { ...font, color: colors["--ink"] }, align: "left" },
    };
    for (const key of Object.keys(layout)) if (/^[xy]axis\d*$/.test(key)) layout[key] = axis(layout[key], colors, width < 480);
    const traces = given.data.map((trace) => traceOf(trace, colors));
    return Plotly.react(box, traces, layout, { displayModeBar: false, showTips: false, doubleClick: false, staticPlot: false });
  };

  const drawAll = () => Promise.all(Object.entries(drawn.figures).map(([name, given]) => draw(name, given)));

  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };

  const script = document.createElement("script");
  script.textContent = await unpack(held("plotly"));
  document.head.append(script);
  document.querySelectorAll(".plot .wait").forEach((element) => element.remove());
  await drawAll();

  let waiting = 0;
  const soon = () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(drawAll); };
  dark.addEventListener("change", drawAll);
  print.addEventListener("change", drawAll);
  addEventListener("resize", soon);
  addEventListener("beforeprint", () => { printing = true; drawAll(); });
  addEventListener("afterprint", () => { printing = false; drawAll(); });
  document.documentElement.dataset.drawn = "yes";
})();
