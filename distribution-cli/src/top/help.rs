//! What the keys are, on a page of its own.

/// Keys, and what each does.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("tab, 1 to 5", "another panel: nodes, calls, methods, runs, warnings"),
    ("up, down", "select a line; also pgup, pgdn, home, end"),
    ("s", "sort by the next column"),
    ("r", "reverse the order"),
    ("/", "show only lines with a text; esc shows all"),
    ("c", "cancel the selected call"),
    ("d", "drain the selected node: it ends its calls, then itself"),
    ("o", "cordon the selected node, or uncordon it"),
    ("p", "pause: what is shown stays as it is"),
    ("?, h", "this page; any key leaves it"),
    ("q, esc, ctrl-c", "quit"),
];

/// The most useful keys, for the last line.
pub(super) const HINTS: &[(&str, &str)] = &[
    ("?", "help"),
    ("q", "quit"),
    ("tab", "panel"),
    ("/", "filter"),
    ("s", "sort"),
    ("c", "cancel"),
    ("d", "drain"),
    ("o", "cordon"),
    ("p", "pause"),
];
