//! A report: the page with all that it shows, and its history, in one HTML file that needs neither a server nor a network.

mod bundle;
mod gather;
mod page;
mod sized;

use distribution::{AdminClient, CallError, administration::Profile};

/// The page of a cluster as one HTML file: what it shows now, and what has been. It opens from disk, without a network, and
/// asks nobody for anything. It has no controls, and no token.
///
/// It has the status, nodes, calls, runs, methods with their times, services, callers, failures, warnings, events, the history
/// by second (an hour) and by minute (a day), the task stream of the last hour, and log records. It names hosts, and has what
/// callers send along as metadata and what handlers log: look into it before you pass it on.
///
/// It has at most 40 MiB: 2,000 rows and 2 MiB of each list, the newest 60,000 spans of the task stream, the newest 5,000 log
/// records or 4 MiB of them, the newest 1,000 events, and the history of 250 nodes with 60,000 points of each resolution. The
/// report says what was left out. The master is asked for one part after the other, so that the parts may be some moments
/// apart. Short calls of the last second may be missing from the task stream, which puts them together.
///
/// # Errors
///
/// [`CallError::Denied`] if the client may not look, and [`CallError::MasterLost`] or [`CallError::Shutdown`] when the master
/// is gone.
///
/// # Cancel safety
///
/// If the future is dropped, nothing has changed.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let master = distribution::Master::bind("127.0.0.1:0").await?;
/// let admin = distribution::AdminClient::new(&master);
/// let html = distribution_http::report(&admin).await?;
/// assert!(html.starts_with("<!doctype html>"));
/// # Ok(()) }
/// ```
pub async fn report(admin: &AdminClient) -> Result<String, CallError> {
    let report = gather::gather(admin).await?;
    Ok(page::page("report", &report.to_string()))
}

/// A profile of a node as one HTML file, which draws it as a flame graph. Like a [`report`] it opens from disk, without a
/// network, and asks nobody for anything.
///
/// ```
/// # use std::time::Duration;
/// # async fn example(master: distribution::Master) -> Result<(), Box<dyn std::error::Error>> {
/// let profile = master.profile(&master.nodes()[0], Duration::from_secs(5)).await?;
/// std::fs::write("profile.html", distribution_http::profile_page(&profile))?;
/// # Ok(()) }
/// ```
pub fn profile_page(profile: &Profile) -> String {
    // It is made of texts and numbers, which JSON can always hold.
    page::page("profile", &serde_json::to_string(profile).unwrap_or_default())
}
