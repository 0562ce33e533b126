"""The stages of `zoo.select`, cheap ones first. Each takes the state and what the stage before left, and leaves rows.

graphs -> costs -> probe -> fine_tune -> ship; `nothing` says what to do where the costs leave nobody.
"""
