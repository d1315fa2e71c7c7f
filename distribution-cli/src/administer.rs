//! The commands that ask a master through its admin service.

use std::{io::IsTerminal, time::Duration};

use distribution::{
    AdminClient, CallFilter, CallInfo, Cluster, ClusterBuilder, LogFilter, NodeId, NodeInfo,
    administration::{LogLevel, MethodSummary, StatusFilter, TimedEvent},
};
use futures::{StreamExt as _, TryStreamExt};
use serde_json::json;

use crate::{
    arguments::{AdminCommand, Connection, Level, OneNode, Status, View, WhichCalls, WhichLogs},
    counted,
    failure::{Failure, Kind},
    look::Look,
    new_file::NewFile,
    output::{note, print, print_json},
    profile, show, top, trouble,
    units::size,
};

/// Rows of a table of calls, unless the user says otherwise.
const SHOWN_CALLS: usize = 100;

/// Calls that are asked for at a time.
const PAGE: usize = 5_000;

/// How long a view that outlives its master waits for it: as long as the library lets it, a year.
const LONGEST_RECONNECT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Clears a terminal.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Runs a command.
pub(crate) async fn run(command: AdminCommand, look: Look) -> Result<(), Failure> {
    match command {
        AdminCommand::Nodes { master, view } => {
            watch(master, &view, async |admin| {
                let nodes = admin.nodes().await?;
                let counts = counted::by_node(admin.metrics().await?);
                let of = |node: &NodeInfo| counts.get(&node.id).cloned();
                print_either(&view, &counted::with_counts(&nodes, of), || show::nodes(&nodes, of, look.measured()))
            })
            .await
        }
        AdminCommand::Calls { master, view, which } => {
            watch(master, &view, async |admin| {
                let limit = which.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
                let limit = limit.unwrap_or(if view.json { usize::MAX } else { SHOWN_CALLS });
                let filter = filter(admin, &which).await?;
                let (calls, has_more) = calls(admin, filter, limit).await?;
                print_either(&view, &json!({ "calls": &calls, "has_more": has_more }), || {
                    show::calls(&calls, has_more, look.measured())
                })
            })
            .await
        }
        AdminCommand::Top { master, once, interval } => top::run(master, once, interval, look).await,
        AdminCommand::Methods { master, view } => {
            watch(master, &view, async |admin| {
                let methods = admin.methods().await?;
                let counts = counted::by_method(admin.metrics().await?);
                let of =
                    |row: &MethodSummary| counts.get(&(row.service.clone(), row.name.clone(), row.version)).cloned();
                print_either(&view, &counted::with_counts(&methods, of), || {
                    show::methods(&methods, of, look.measured())
                })
            })
            .await
        }
        AdminCommand::Services { master, view } => {
            watch(master, &view, async |admin| {
                let services = admin.services().await?;
                print_either(&view, &services, || show::services(&services, look.measured()))
            })
            .await
        }
        AdminCommand::Callers { master, view } => {
            watch(master, &view, async |admin| {
                let callers = admin.callers().await?;
                print_either(&view, &callers, || show::callers(&callers, look.measured()))
            })
            .await
        }
        AdminCommand::Runs { master, view } => {
            watch(master, &view, async |admin| {
                let runs = admin.runs().await?;
                print_either(&view, &runs, || show::runs(&runs, look.measured()))
            })
            .await
        }
        AdminCommand::Status { master, view } => {
            watch(master, &view, async |admin| {
                let (status, stats, metrics) = (admin.status().await?, admin.stats().await?, admin.metrics().await?);
                let (counted, refused) = (metrics.all_calls(), metrics.refused_calls);
                let all = json!({ "master": &status, "stats": &stats, "counted": &counted, "refused_calls": &refused });
                print_either(&view, &all, || show::status(&status, &stats, (&counted, &refused), look.measured()))
            })
            .await
        }
        AdminCommand::Warnings { master, view } => {
            watch(master, &view, async |admin| {
                let warnings = admin.warnings().await?;
                print_either(&view, &warnings, || trouble::warnings(&warnings, look.measured()))
            })
            .await
        }
        AdminCommand::Failures { master, view } => {
            watch(master, &view, async |admin| {
                let failures = admin.failures().await?;
                print_either(&view, &failures, || trouble::failures(&failures, look.measured()))
            })
            .await
        }
        AdminCommand::Report { master, output } => {
            let file = NewFile::create(&output)?;
            let html = administer(master, async |admin| Ok(distribution_http::report(admin).await?)).await?;
            file.finish(html.as_bytes())?;
            print(&format!("wrote {} ({})\n", output.display(), size(html.len())))
        }
        AdminCommand::Profile { node, seconds, output } => profile::run(node, seconds, output, look).await,
        AdminCommand::Events { master, past, once, json } => {
            administer(master, async |admin| follow(admin, (past, once), json, look).await).await
        }
        AdminCommand::Logs { master, which, json } => {
            administer(master, async |admin| logs(admin, &which, json, look).await).await
        }
        AdminCommand::Cancel { call, master, json } => {
            administer(master, async |admin| Ok(admin.cancel(call).await?)).await?;
            match json {
                true => print_json(&json!({ "action": "cancel", "call": call })),
                false => print(&format!("cancelled call {call}\n")),
            }
        }
        AdminCommand::Drain(node) => {
            act(node, "drain", "told to drain", async |admin, id| Ok(admin.drain(id).await?)).await
        }
        AdminCommand::Cordon(node) => {
            act(node, "cordon", "cordoned", async |admin, id| Ok(admin.cordon(id).await?)).await
        }
        AdminCommand::Uncordon(node) => {
            act(node, "uncordon", "uncordoned", async |admin, id| Ok(admin.uncordon(id).await?)).await
        }
        AdminCommand::Kick(node) => act(node, "kick", "kicked", async |admin, id| Ok(admin.kick(id).await?)).await,
    }
}

/// Does something with the admin service, and takes leave of the master whatever came of it.
pub(crate) async fn administer<T>(
    connection: Connection,
    work: impl AsyncFnOnce(&AdminClient) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let cluster = connect(connection).await?;
    let result = work(&AdminClient::new(&cluster)).await;
    cluster.close().await;
    result
}

async fn connect(connection: Connection) -> Result<Cluster, Failure> {
    let timeout = connection.connect_timeout;
    Ok(builder(&connection).reconnect_timeout(timeout).connect(connection.master).await?)
}

fn builder(connection: &Connection) -> ClusterBuilder {
    let mut builder = Cluster::builder().admin().connect_timeout(connection.connect_timeout);
    if let Some(file) = &connection.token_file {
        builder = builder.token_file(file);
    }
    if let Some(certificates) = connection.certificates.clone().into_certificates() {
        builder = builder.certificates(certificates);
    }
    if connection.insecure {
        builder = builder.insecure();
    }
    builder
}

/// Connects again and again, for a view that outlives its master.
#[derive(Clone, Debug)]
pub(crate) struct Dial(Connection);

impl Dial {
    pub(crate) fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// The address, as the user gave it.
    pub(crate) fn master(&self) -> &str {
        &self.0.master
    }

    /// Connects, for as long as it takes whenever the connection is lost later.
    pub(crate) async fn connect_for_long(&self) -> Result<Cluster, Failure> {
        Ok(builder(&self.0).reconnect_timeout(LONGEST_RECONNECT).connect(&self.0.master).await?)
    }
}

/// Shows something once, or again and again until ctrl-c.
async fn watch(
    connection: Connection,
    view: &View,
    show: impl AsyncFn(&AdminClient) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(interval) = view.watch else {
        return administer(connection, show).await;
    };
    administer(connection, async |admin| {
        let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(100)));
        let shows = async {
            loop {
                ticks.tick().await;
                show(admin).await?;
            }
        };
        // One future for ctrl-c: it is also obeyed while the master does not answer.
        tokio::select! {
            result = shows => result,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })
    .await
}

/// Prints the nodes, or what has happened before, and then each event, until ctrl-c.
async fn follow(admin: &AdminClient, (past, once): (Option<u64>, bool), json: bool, look: Look) -> Result<(), Failure> {
    let print_event = |event: &TimedEvent| match json {
        true => print_json(event),
        false => print(&show::event(event, look)),
    };
    let prints = async {
        let mut events = match past {
            Some(most) => {
                let page = admin.past_events(most).await?;
                page.events.iter().try_for_each(print_event)?;
                if once {
                    return Ok(());
                }
                admin.events_after(page.next).left_stream()
            }
            None => admin.events().right_stream(),
        };
        while let Some(event) = events.try_next().await? {
            print_event(&event)?;
        }
        Ok(())
    };
    tokio::select! {
        result = prints => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Prints records, and with `--follow` those that come, until ctrl-c.
async fn logs(admin: &AdminClient, which: &WhichLogs, json: bool, look: Look) -> Result<(), Failure> {
    let prints = async {
        if let Some(node) = &which.node {
            let unknown = !is_known_in_logs(admin, node).await?;
            match which.follow {
                true if unknown => note(&format!(
                    "there is no node {node} and no record of one; what it logs is printed once it has come"
                )),
                false if unknown => {
                    let sentence = format!(
                        "no node {node} is registered, and the master has no record of one; `distribution nodes` lists those that are \
                         registered"
                    );
                    return Err(Failure::new(Kind::UnknownId, sentence));
                }
                _ => {}
            }
        }
        let mut records = admin.logs(log_filter(which));
        while let Some(record) = records.try_next().await? {
            match json {
                true => print_json(&record)?,
                false => print(&show::record(&record, which.backtrace, look))?,
            }
        }
        Ok(())
    };
    tokio::select! {
        result = prints => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Whether a node with this name or id is registered, or the master has a record of one that is gone.
async fn is_known_in_logs(admin: &AdminClient, node: &str) -> Result<bool, Failure> {
    let is_it = |known: &NodeInfo| *known.name == *node || known.id.to_string() == node;
    if admin.nodes().await?.iter().any(is_it) {
        return Ok(true);
    }
    let mut one = LogFilter::default().node(node);
    one.past = 1;
    Ok(admin.logs(one).try_next().await?.is_some())
}

fn log_filter(which: &WhichLogs) -> LogFilter {
    let WhichLogs { follow, node, method, call, level, contains, since, lines, .. } = which.clone();
    let mut filter = LogFilter::default();
    (filter.node, filter.method, filter.call, filter.contains) = (node, method, call, contains);
    (filter.newer_than, filter.follow) = (since, follow);
    filter.past = lines.map_or(filter.past, |lines| usize::try_from(lines).unwrap_or(usize::MAX));
    filter.level = match level {
        None | Some(Level::Trace) => LogLevel::Trace,
        Some(Level::Debug) => LogLevel::Debug,
        Some(Level::Info) => LogLevel::Info,
        Some(Level::Warn) => LogLevel::Warn,
        Some(Level::Error) => LogLevel::Error,
    };
    filter
}

fn print_either(view: &View, value: &impl serde::Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
    match view.json {
        true => print_json(value),
        // In one piece, so that there is always something to read.
        false if view.watch.is_some() && std::io::stdout().is_terminal() => {
            let lines = crossterm::terminal::size().map_or(usize::MAX, |(_, lines)| usize::from(lines));
            print(&format!("{CLEAR}{}", first_lines(&text(), lines)))
        }
        false => print(&text()),
    }
}

/// As many lines as a terminal has: of a longer list its beginning would scroll away.
fn first_lines(text: &str, lines: usize) -> String {
    let all = text.lines().count();
    // The cursor is on the line behind the last.
    if all < lines {
        return text.to_owned();
    }
    let shown = lines.saturating_sub(2);
    let mut first: String = text.split_inclusive('\n').take(shown).collect();
    first += &format!("{} more lines; without --watch all are printed", all - shown);
    first
}

async fn filter(admin: &AdminClient, which: &WhichCalls) -> Result<CallFilter, Failure> {
    let mut filter = CallFilter::default();
    if let Some(method) = &which.method {
        filter = filter.method(method);
    }
    if let Some(node) = &which.node {
        filter = filter.node(find(&admin.nodes().await?, node)?.id);
    }
    if let Some(age) = which.older_than {
        filter = filter.older_than(age);
    }
    if let Some(status) = which.status {
        filter = filter.status(match status {
            Status::Waiting => StatusFilter::Waiting,
            Status::Running => StatusFilter::Running,
            Status::Stopping => StatusFilter::Stopping,
        });
    }
    Ok(filter)
}

/// Calls, page by page, and whether there are more.
async fn calls(admin: &AdminClient, mut filter: CallFilter, limit: usize) -> Result<(Vec<CallInfo>, bool), Failure> {
    let mut calls = Vec::new();
    loop {
        let page = admin.calls(filter.clone().limit(PAGE.min(limit - calls.len()))).await?;
        calls.extend(page.calls);
        match page.next {
            Some(next) if calls.len() < limit => filter = filter.after(next),
            next => return Ok((calls, next.is_some())),
        }
    }
}

/// Does something with a node.
async fn act(
    OneNode { node, master, json }: OneNode,
    action: &str,
    done: &str,
    act: impl AsyncFnOnce(&AdminClient, NodeId) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let found = administer(master, async |admin| {
        let found = find(&admin.nodes().await?, &node)?.identity();
        act(admin, found.id).await?;
        Ok(found)
    })
    .await?;
    match json {
        true => print_json(&json!({ "action": action, "node": found })),
        false => print(&format!("{found} is {done}\n")),
    }
}

/// The node with this id, or the only one with this name, or the only one whose id or name begins so.
pub(crate) fn find<'a>(nodes: &'a [NodeInfo], wanted: &str) -> Result<&'a NodeInfo, Failure> {
    // Every name begins with it, as that of an unset variable in a script does.
    if wanted.is_empty() {
        return Err(Failure::new(Kind::Usage, "the name of the node is empty; give its id or name"));
    }
    let of = |is_meant: &dyn Fn(&NodeInfo) -> bool| nodes.iter().filter(|node| is_meant(node)).collect::<Vec<_>>();
    let ways: [&dyn Fn(&NodeInfo) -> bool; 3] =
        [&|node| node.id.to_string() == wanted, &|node| *node.name == *wanted, &|node| {
            node.name.starts_with(wanted) || node.id.to_string().starts_with(wanted)
        }];
    for way in ways {
        match &of(way)[..] {
            [] => {}
            [node] => return Ok(node),
            several => {
                let first: Vec<_> = several.iter().take(5).map(|node| format!("{} ({})", node.name, node.id)).collect();
                let more = if several.len() > 5 { ", and others" } else { "" };
                let sentence = format!(
                    "{} nodes are meant by `{wanted}`: {}{more}; give the id of one",
                    several.len(),
                    first.join(", ")
                );
                return Err(Failure::new(Kind::UnknownId, sentence));
            }
        }
    }
    let sentence = format!(
        "no node has the id or the name `{wanted}`, or one that begins so; `distribution nodes` lists those that are registered"
    );
    Err(Failure::new(Kind::UnknownId, sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_list_that_is_longer_than_the_terminal_the_beginning_is_shown() {
        let list = "1\n2\n3\n4\n";
        assert_eq!(first_lines(list, 5), list);
        assert_eq!(first_lines(list, 4), "1\n2\n2 more lines; without --watch all are printed");
        assert_eq!(first_lines(list, 1), "4 more lines; without --watch all are printed");
        assert_eq!(first_lines(list, usize::MAX), list);
    }
}
