"""What the verbs share: options, supports and episodes named on a command line, bars, pictures.

In: what was typed, frames of cameras and files. Out: typed values, open inputs and outputs, what is
shown. May import: no other room.
"""
