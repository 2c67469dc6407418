"""The regression task of the demo, done with torch and torchbnn: what `bbb` is held against.

It shares `bbb.tasks` (the data and the settings) with bbb, and nothing else.

    regression.py   the network, its training, its draws and their band
    report.py       the summary, the pictures and the files
    __main__.py     `python -m reference`
"""
