"""The regression task of the demo with torch and torchbnn: the reference that `bbb` is compared with.

It shares `bbb.tasks` (the data and the settings) with bbb, and nothing else.

    regression.py   the network, its training, its draws and their band
    report.py       the summary, the plots and the files
    __main__.py     `python -m reference`
"""
