//! A node that the driver keeps running: one process after another.

use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, Instant},
};

use super::child::Child;

/// How long a terminated node may take to end. Its handlers take milliseconds.
const LEAVING: Duration = Duration::from_secs(20);

/// Where one process after another serves as a node. Each has a name of its own.
#[derive(Debug)]
pub(super) struct NodeProcess {
    number: u32,
    starts: u32,
    /// What the master has told last.
    registered: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Empty { until: Instant },
    Serving { child: Child },
    Frozen { child: Child, until: Instant },
    Leaving { child: Child, since: Instant },
}

/// What a look at a node has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// A new process was started, under this name.
    Started(String),
    /// It was let go on.
    Thawed,
    /// It has ended as it was told to.
    Left,
    /// It did what it should not.
    Wrong(String),
}

impl NodeProcess {
    pub(super) fn new(number: u32) -> Self {
        Self { number, starts: 0, registered: false, state: State::Empty { until: Instant::now() } }
    }

    /// The name of the process that is here, or was last.
    pub(super) fn name(&self) -> String {
        format!("node-{}.{}", self.number, self.starts)
    }

    /// Whether its process serves calls as far as anybody knows, and nothing was done to it.
    pub(super) fn is_well(&mut self) -> bool {
        match &mut self.state {
            State::Serving { child } => self.registered && matches!(child.ended(), Ok(None)),
            _ => false,
        }
    }

    /// The master has told that it came or went.
    pub(super) fn set_registered(&mut self, registered: bool) {
        self.registered = registered;
    }

    /// Kills the process, and starts none for a while.
    pub(super) async fn kill(&mut self, empty: Duration) -> io::Result<()> {
        self.child_mut().ok_or_else(nobody)?.kill().await?;
        self.state = State::Empty { until: Instant::now() + empty };
        Ok(())
    }

    /// Freezes the process for a while.
    pub(super) async fn freeze(&mut self, time: Duration) -> io::Result<()> {
        let mut child = self.take().ok_or_else(nobody)?;
        child.signal("STOP").await?;
        self.state = State::Frozen { child, until: Instant::now() + time };
        Ok(())
    }

    /// Asks the process to end in order.
    pub(super) async fn terminate(&mut self) -> io::Result<()> {
        let mut child = self.take().ok_or_else(nobody)?;
        child.signal("TERM").await?;
        self.state = State::Leaving { child, since: Instant::now() };
        Ok(())
    }

    /// Does what is due.
    pub(super) async fn look(&mut self, master: &str, most_slots: u32, folder: &Path) -> io::Result<Found> {
        let now = Instant::now();
        let name = self.name();
        match &mut self.state {
            State::Empty { until } if *until <= now => {
                self.starts += 1;
                let slots = 1 + self.number % most_slots;
                self.registered = false;
                let name = self.name();
                let log = File::create(folder.join(format!("{name}.log")))?;
                let arguments =
                    ["node", "--master", master, "--name", &name, "--slots", &slots.to_string(), "--folder"];
                let arguments = arguments.into_iter().map(str::to_owned).chain([folder.display().to_string()]);
                let child = Child::start(&arguments.collect::<Vec<_>>(), log)?;
                self.state = State::Serving { child };
                Ok(Found::Started(name))
            }
            State::Serving { child } => Ok(match child.ended()? {
                None => Found::Nothing,
                Some(status) => {
                    self.state = State::Empty { until: now };
                    Found::Wrong(format!("{name} ended by itself: {status}"))
                }
            }),
            State::Frozen { child, until } if *until <= now => {
                child.signal("CONT").await?;
                let child = self.take().ok_or_else(nobody)?;
                self.state = State::Serving { child };
                Ok(Found::Thawed)
            }
            State::Leaving { child, since } => match child.ended()? {
                None if since.elapsed() < LEAVING => Ok(Found::Nothing),
                None => {
                    self.kill(Duration::ZERO).await?;
                    Ok(Found::Wrong(format!("{name} did not end within {LEAVING:?} of SIGTERM")))
                }
                Some(status) => {
                    self.state = State::Empty { until: now };
                    let wrong = || Found::Wrong(format!("{name} ended after SIGTERM with {status}"));
                    Ok(if status.success() { Found::Left } else { wrong() })
                }
            },
            State::Empty { .. } | State::Frozen { .. } => Ok(Found::Nothing),
        }
    }

    fn child_mut(&mut self) -> Option<&mut Child> {
        match &mut self.state {
            State::Empty { .. } => None,
            State::Serving { child } | State::Frozen { child, .. } | State::Leaving { child, .. } => Some(child),
        }
    }

    fn take(&mut self) -> Option<Child> {
        match std::mem::replace(&mut self.state, State::Empty { until: Instant::now() }) {
            State::Empty { .. } => None,
            State::Serving { child } | State::Frozen { child, .. } | State::Leaving { child, .. } => Some(child),
        }
    }

    /// Ends whatever is here.
    pub(super) async fn clear(&mut self) {
        if let Some(mut child) = self.take() {
            // One that cannot be killed has ended.
            let _ = child.kill().await;
        }
    }
}

fn nobody() -> io::Error {
    io::Error::other("no process of this node is running")
}
