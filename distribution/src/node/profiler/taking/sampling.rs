//! Takes a profile with `pprof`, which interrupts whichever thread uses the processor, and notes its stack.
//!
//! A thread that waits is never interrupted by that. So, at the end, each handler that waits is interrupted on purpose, with the
//! same signal.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::{pthread::Pthread, signal::Signal};
use pprof::{ProfilerGuard, ProfilerGuardBuilder, Report};

use super::handlers::{self, HandlerThread, RunningCall};
use crate::{
    administration::ThreadState,
    text::cut,
    wire::profile::{DEEPEST, LONGEST_NAME, MOST_TEXT, ProfileReply, SentHandler, SentProfile, SentStack},
};

/// Samples for each second of processor time. Not a round number, so that it does not go along with timers.
const FREQUENCY: u16 = 99;

/// No sample is taken while a thread is in one of these: what unwinds its stack needs them too, and could wait for itself.
const NOT_INTERRUPTED: [&str; 4] = ["libc.so", "libgcc_s", "libpthread", "vdso"];

/// How often a handler that waits is interrupted. Signals that come at the same time are lost.
const INTERRUPTIONS: u32 = 3;

/// The time between two interruptions, in which the stack is noted.
const BETWEEN: Duration = Duration::from_millis(2);

/// The most handlers that are looked at.
const MOST_HANDLERS: usize = 256;

/// Takes one. Holds the thread for as long, or until the other end of `stopped` is gone.
pub(in crate::node::profiler) fn take(length: Duration, stopped: &Receiver<()>) -> ProfileReply {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let Ok(_turn) = ONE_AT_A_TIME.try_lock() else {
        return Err("another profile of its process is being taken".to_owned());
    };
    let guard = start(ProfilerGuardBuilder::default().frequency(FREQUENCY.into()).blocklist(&NOT_INTERRUPTED))?;
    // Only now: the profiler looks itself up first, which takes a second in a large program.
    let (began, used_before) = (Instant::now(), used());
    let before: Vec<_> =
        handlers::busy().into_iter().map(|(thread, running)| (thread.look().1, thread, running)).collect();
    if stopped.recv_timeout(length) != Err(RecvTimeoutError::Timeout) {
        return Err("its connection has ended".to_owned());
    }
    let (length, used) = (began.elapsed(), used().saturating_sub(used_before));
    let report = report(&guard)?;
    drop(guard);
    let taken: u64 = report.data.values().filter_map(|count| u64::try_from(*count).ok()).sum();
    let missed = ((used.as_secs_f64() * f64::from(FREQUENCY)) as u64).saturating_sub(taken);

    let mut names = Names::default();
    let handlers = look_at_handlers(&before, &report, length, &mut names)?;
    let (stacks, left_out) = most_frequent(&report, &mut names);
    let length = u32::try_from(length.as_millis()).unwrap_or(u32::MAX);
    Ok(SentProfile { length, frequency: FREQUENCY.into(), left_out, missed, names: names.names, stacks, handlers })
}

/// The processor time that the process has used.
fn used() -> Duration {
    let stat = procfs::process::Process::myself().and_then(|process| process.stat());
    stat.map_or(Duration::ZERO, |stat| handlers::processor_time(stat.utime + stat.stime))
}

fn start(builder: ProfilerGuardBuilder) -> Result<ProfilerGuard<'static>, String> {
    builder.build().map_err(|error| format!("the profiler did not start: {error}"))
}

fn report(guard: &ProfilerGuard<'_>) -> Result<Report, String> {
    guard.report().build().map_err(|error| format!("the profiler gave no report: {error}"))
}

/// Names of threads and functions, each once.
#[derive(Debug, Default)]
struct Names {
    names: Vec<String>,
    places: HashMap<String, u32>,
}

impl Names {
    fn place(&mut self, mut name: String) -> u32 {
        // With room for the mark that it was cut.
        cut(&mut name, LONGEST_NAME - 16);
        if let Some(place) = self.places.get(&name) {
            return *place;
        }
        let place = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.places.insert(name.clone(), place);
        self.names.push(name);
        place
    }

    fn places(&mut self, names: Vec<String>) -> Vec<u32> {
        names.into_iter().map(|name| self.place(name)).collect()
    }

    /// The bytes that these names take where each stands in its place.
    fn text(&self, places: &[u32]) -> usize {
        let names = places.iter().filter_map(|place| self.names.get(*place as usize));
        names.map(|name| name.len() + size_of::<String>()).sum()
    }
}

/// Stands for functions without a name: the program was stripped, or its file was replaced while it ran.
const NO_NAME: &str = "[no name]";

/// Whether a frame is one of the profiler, which stands at the inner end of each stack, or of the system's way into it.
fn is_of_profiler(name: &str) -> bool {
    let name = name.trim_start_matches('<');
    ["backtrace::", "pprof::", "perf_signal_handler", "__restore_rt"].iter().any(|start| name.starts_with(start))
}

/// The functions of a sample, the outermost first, without those of the profiler.
fn functions(frames: &pprof::Frames) -> Vec<String> {
    let named = |frame: &Vec<pprof::Symbol>| match frame.as_slice() {
        [] => vec![NO_NAME.to_owned()],
        symbols => symbols.iter().map(|symbol| without_hash(symbol.name())).collect(),
    };
    let innermost_first = frames.frames.iter().flat_map(named);
    let innermost_first: Vec<_> = innermost_first.skip_while(|name| is_of_profiler(name)).collect();
    // How much of the profiler is seen depends on how it was compiled.
    let begin = innermost_first.iter().position(|name| name == "perf_signal_handler").map_or(0, |handler| handler + 2);
    let mut functions: Vec<_> = innermost_first.into_iter().skip(begin).take(DEEPEST).collect();
    functions.reverse();
    functions.dedup_by(|a, b| a == NO_NAME && b == NO_NAME);
    functions
}

/// A function's name without the hash that the compiler adds.
fn without_hash(mut name: String) -> String {
    if let Some((_, hash)) = name.rsplit_once("::h") {
        if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            name.truncate(name.len() - "::h".len() - hash.len());
        }
    }
    name
}

/// The stacks of a report, the most frequent first, and how many samples there was no room for.
fn most_frequent(report: &Report, names: &mut Names) -> (Vec<SentStack>, u64) {
    let mut all = Names::default();
    let mut counts: HashMap<Vec<u32>, u64> = HashMap::new();
    for (frames, count) in &report.data {
        let mut stack = vec![frames.thread_name_or_id()];
        stack.extend(functions(frames));
        stack.truncate(DEEPEST);
        *counts.entry(all.places(stack)).or_default() += u64::try_from(*count).unwrap_or(0);
    }
    let mut stacks: Vec<_> = counts.into_iter().map(|(frames, samples)| SentStack { frames, samples }).collect();
    stacks.sort_unstable_by(|one, other| (other.samples, &one.frames).cmp(&(one.samples, &other.frames)));
    let mut text = 0;
    let fits = stacks.iter().position(|stack| {
        text += all.text(&stack.frames);
        text > MOST_TEXT
    });
    let left_out = stacks.split_off(fits.unwrap_or(stacks.len()));
    // Only the names that are left are sent.
    for stack in &mut stacks {
        for frame in &mut stack.frames {
            *frame = names.place(all.names.get(*frame as usize).cloned().unwrap_or_default());
        }
    }
    (stacks, left_out.iter().map(|stack| stack.samples).sum())
}

/// A handler that ran before samples were taken, and the processor time that its thread had used by then.
type Before = (Option<Duration>, Arc<HandlerThread>, RunningCall);

/// What the handlers are doing that run now.
fn look_at_handlers(
    before: &[Before],
    report: &Report,
    length: Duration,
    names: &mut Names,
) -> Result<Vec<SentHandler>, String> {
    let mut busy = handlers::busy();
    busy.sort_by_key(|(_, running)| running.since);
    busy.truncate(MOST_HANDLERS);
    let looks: Vec<_> = busy.iter().map(|(thread, _)| thread.look()).collect();
    let waits = |at: usize| looks[at].0 != ThreadState::Running;
    let seen_waiting = match (0..busy.len()).any(waits) {
        true => interrupt(busy.iter().enumerate().filter(|(at, _)| waits(*at)).map(|(_, busy)| busy))?,
        false => HashMap::new(),
    };
    let mut handlers = Vec::new();
    for ((thread, running), (state, used)) in busy.iter().zip(looks) {
        let earlier =
            before.iter().find(|(_, earlier, call)| earlier.pthread == thread.pthread && call.is_same(running));
        let used = earlier.and_then(|(used_before, ..)| Some(used?.saturating_sub((*used_before)?)));
        let frames = match state {
            ThreadState::Running if earlier.is_some() => most_seen(report, thread.pthread),
            _ => seen_waiting.get(&thread.pthread).cloned().unwrap_or_default(),
        };
        let method = running.method.as_ref().map(|method| method.name().to_string()).unwrap_or_default();
        handlers.push(SentHandler {
            call: running.call.0,
            attempt: running.attempt,
            method: names.place(method),
            thread: names.place(thread.name.clone()),
            running: u64::try_from(running.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            state,
            cpu: used.map(|used| (1e3 * used.as_secs_f64() / length.as_secs_f64()) as u32),
            frames: names.places(frames),
        });
    }
    Ok(handlers)
}

/// The stack that most samples of a thread have.
fn most_seen(report: &Report, thread: Pthread) -> Vec<String> {
    let of_thread = report.data.iter().filter(|(frames, _)| frames.thread_id == thread);
    of_thread.max_by_key(|(_, count)| **count).map(|(frames, _)| functions(frames)).unwrap_or_default()
}

/// Interrupts handlers that wait, one after the other, and returns the stacks of their threads.
fn interrupt<'a>(
    waiting: impl Iterator<Item = &'a (Arc<HandlerThread>, RunningCall)>,
) -> Result<HashMap<Pthread, Vec<String>>, String> {
    // Its own samples are as rare as can be. Waiting threads are in a library that is spared above, at a place where they hold
    // nothing that unwinding needs.
    let guard = start(ProfilerGuardBuilder::default().frequency(1))?;
    for (thread, running) in waiting {
        for _ in 0..INTERRUPTIONS {
            thread.interrupt(running, Signal::SIGPROF);
            // Nothing tells when the other thread has noted its stack.
            thread::sleep(BETWEEN);
        }
    }
    let report = report(&guard)?;
    Ok(report.data.keys().map(|frames| (frames.thread_id, functions(frames))).collect())
}
