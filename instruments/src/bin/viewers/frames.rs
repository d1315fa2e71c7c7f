//! How fluent the page is in a real browser: the times from one frame to the next, panel by panel.

use std::time::Duration;

use distribution_tests::browser::Browser;

/// The panels that are looked at, by the names in their addresses.
const PANELS: [&str; 6] = ["overview", "nodes", "calls", "runs", "tasks", "methods"];

/// A frame that takes longer is seen as a halt.
const LONGEST: f64 = 250.0;

/// Counts the frames while the page is shown.
const COUNT: &str = "window.frames = []; window.last = performance.now(); window.counting = true; \
     const next = (now) => { window.frames.push(now - window.last); window.last = now; if (window.counting) requestAnimationFrame(next); }; \
     requestAnimationFrame(next);";

/// Ends that, and takes the times in milliseconds.
const TAKE: &str = "window.counting = false; return window.frames;";

/// Shows each panel for this long, and prints how the page was drawn meanwhile. Returns whether no frame took too long.
pub(crate) async fn look(browser: &Browser, page: &str, time: Duration) -> bool {
    let mut is_fluent = true;
    for panel in PANELS {
        browser.show(&format!("http://{page}/"), panel).await;
        browser.sees("Live").await;
        browser.sees_no_more("Reading…").await;
        browser.eval(COUNT).await;
        tokio::time::sleep(time).await;
        let frames = browser.eval(TAKE).await;
        let mut frames: Vec<f64> = frames.as_array().into_iter().flatten().filter_map(|frame| frame.as_f64()).collect();
        frames.sort_by(f64::total_cmp);
        let at = |part: f64| {
            frames.get((frames.len().saturating_sub(1) as f64 * part) as usize).copied().unwrap_or_default()
        };
        let longest = at(1.0);
        is_fluent &= longest <= LONGEST && !frames.is_empty();
        println!(
            "  {panel:<10} {:>5.1} frames/s   p50 {:>6.1} ms   p99 {:>6.1} ms   longest {longest:>6.1} ms",
            frames.len() as f64 / time.as_secs_f64(),
            at(0.5),
            at(0.99),
        );
    }
    is_fluent
}
