//! The terminal: its screen, its keyboard, and that both are given back.

use std::{
    io::{self, IsTerminal},
    pin::pin,
    time::{Duration, Instant},
};

use crossterm::event::{Event, EventStream, KeyEventKind};
use distribution::Cluster;
use futures::StreamExt;
use ratatui::DefaultTerminal;
use tokio::{sync::mpsc, time::timeout};

use super::{
    follow::{Follower, Update},
    keys::Step,
    screen,
    state::App,
};
use crate::{
    administer::Dial,
    failure::{Failure, Kind},
    look::Look,
    signals::Signals,
};

/// Actions, and answers, that wait. A person presses keys one after the other.
const WAITING: usize = 16;

/// How long to take leave of the master.
const LEAVE: Duration = Duration::from_secs(1);

/// Fails where there is no terminal.
pub(super) fn check() -> Result<(), Failure> {
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        return Ok(());
    }
    let sentence = "`top` needs a terminal, and standard input or output is not one; `distribution top --once` prints the \
                    same as text";
    Err(Failure::new(Kind::Usage, sentence))
}

/// The screen, taken from the shell and given back. A panic gives it back too, before its message is printed: that is what
/// ratatui's hook does.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> Result<Self, Failure> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                // It may be half taken.
                let _ = ratatui::try_restore();
                Err(failed(&error))
            }
        }
    }

    fn draw(&mut self, app: &mut App) -> Result<(), Failure> {
        self.0.draw(|frame| screen::draw(frame, app, Instant::now())).map_err(|error| failed(&error))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = ratatui::try_restore();
    }
}

fn failed(error: &io::Error) -> Failure {
    Failure::other(format!("the terminal cannot be used: {error}"))
}

/// Shows the cluster until a key or a signal ends it.
pub(super) async fn run(dial: Dial, cluster: Cluster, interval: Duration, look: Look) -> Result<(), Failure> {
    let mut app = App::new(dial.master(), look.is_coloured);
    let (act, actions) = mpsc::channel(WAITING);
    let (tell, mut updates) = mpsc::channel(WAITING);
    let mut follows = pin!(Follower { dial, interval, actions, updates: tell }.run(cluster));
    let signals = Signals::new().map_err(|error| Failure::other(format!("signals cannot be waited for: {error}")))?;
    // Ctrl-c is a key here; this is for SIGTERM and SIGINT from elsewhere.
    let mut ends = pin!(signals.next());
    let mut screen = Screen::open()?;
    let mut keys = EventStream::new();
    // Times on the screen go on while nothing happens.
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    loop {
        screen.draw(&mut app)?;
        tokio::select! {
            ended = &mut follows => return ended,
            Some(update) = updates.recv() => match update {
                Update::Snapshot(snapshot) => app.on_snapshot(*snapshot),
                Update::Lost(why) => app.on_lost(why, Instant::now()),
                Update::Done { text, is_error } => app.on_done(text, is_error),
            },
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => match app.on_key(key) {
                    Step::Stay => {}
                    Step::Quit => break,
                    Step::Do(question) => {
                        let what = question.what.clone();
                        if act.try_send(question).is_err() {
                            app.on_done(format!("cannot {what}: earlier actions have not ended"), true);
                        }
                    }
                },
                // It has another size now, which the next drawing finds.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(failed(&error)),
                // The terminal was closed.
                None => break,
            },
            _ = clock.tick() => {}
            () = &mut ends => break,
        }
    }
    drop((screen, act, updates));
    timeout(LEAVE, follows).await.unwrap_or(Ok(()))
}
