//! What looks wrong in a cluster and what has failed, as text for people.

use distribution::administration::{FailureGroup, Warning, WarningKind};

use crate::{
    look::{Look, Tone},
    table::{Table, shown},
    units::{count, time},
};

/// Each warning in a line of its own: they are sentences, which a table would cut off.
pub(crate) fn warnings(warnings: &[Warning], look: Look) -> String {
    if warnings.is_empty() {
        return "nothing looks wrong\n".to_owned();
    }
    let line = |warning: &Warning| {
        let tone = match warning.kind {
            WarningKind::MasterStalled
            | WarningKind::NodeSilent
            | WarningKind::NodeLost
            | WarningKind::NobodyServes
            | WarningKind::QueueFull => Tone::Bad,
            _ => Tone::Attention,
        };
        format!("{} {}\n", look.paint("!", Some(tone)), shown(&warning.text))
    };
    warnings.iter().map(line).collect()
}

/// The groups of failed calls, the last failure first.
pub(crate) fn failures(groups: &[FailureGroup], look: Look) -> String {
    if groups.is_empty() {
        return "no calls have failed\n".to_owned();
    }
    let mut table =
        Table::new(&["METHOD", "KIND", "CALLS>", "LAST>1", "FIRST>4", "CALLER3", "LAST CALL5", "LAST ERROR~"]);
    for group in groups {
        table.row([
            group.method.to_string(),
            group.kind.clone(),
            count(group.count),
            time(group.last),
            time(group.first),
            group.caller.as_deref().unwrap_or("-").to_owned(),
            group.call.map_or("-".to_owned(), |call| call.to_string()),
            group.message.clone(),
        ]);
        table.tone("KIND", Some(Tone::Bad));
    }
    table.text(look)
}
