//! Asks the master again and again, carries actions out, and connects again when the master is lost.

use std::{
    ops::ControlFlow,
    pin::pin,
    time::{Duration, Instant},
};

use distribution::{AdminClient, Cluster};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc::{Receiver, Sender},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    snapshot::Snapshot,
    state::{Action, Question},
};
use crate::{administer::Dial, failure::Failure};

/// The master is asked once a day at least: a longer time cannot be added to a point in time.
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// How often it is looked whether the connection is there, while an answer is awaited.
const LOOK: Duration = Duration::from_millis(250);

/// A master that is connected and has not answered for this long is said to be lost.
const SILENT: Duration = Duration::from_secs(3);

/// An action that has not ended by then is given up.
const LONGEST_ACTION: Duration = Duration::from_secs(10);

/// Between two attempts to connect.
const BACKOFF: Duration = Duration::from_secs(1);

/// What the screen is told.
#[derive(Debug)]
pub(super) enum Update {
    Snapshot(Box<Snapshot>),
    Lost(String),
    /// An action has ended, well or not.
    Done {
        text: String,
        is_error: bool,
    },
}

/// Who asks, and who is told.
pub(super) struct Follower {
    pub(super) dial: Dial,
    pub(super) interval: Duration,
    /// Actions to carry out. The end of this channel ends it all.
    pub(super) actions: Receiver<Question>,
    pub(super) updates: Sender<Update>,
}

impl Follower {
    /// Runs until the other end of `actions` is gone.
    ///
    /// # Errors
    ///
    /// That the master does not let this program in, which waiting does not mend. A lost master is waited for.
    pub(super) async fn run(mut self, mut cluster: Cluster) -> Result<(), Failure> {
        loop {
            let ended = self.ask(&cluster).await;
            cluster.close().await;
            let ControlFlow::Continue(failure) = ended else { return Ok(()) };
            self.on_failure(failure).await?;
            match self.connect_again().await? {
                ControlFlow::Continue(again) => cluster = again,
                ControlFlow::Break(()) => return Ok(()),
            }
        }
    }

    /// Asks until it fails, or is to end.
    async fn ask(&mut self, cluster: &Cluster) -> ControlFlow<(), Failure> {
        let admin = AdminClient::new(cluster);
        let mut ticks = interval(self.interval.min(LONGEST_INTERVAL));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut acting = FuturesUnordered::new();
        loop {
            let mut fetches = pin!(Snapshot::fetch(&admin));
            let asked = Instant::now();
            // What was changed is shown at once.
            let mut is_answered = false;
            loop {
                tokio::select! {
                    fetched = &mut fetches, if !is_answered => match fetched {
                        Ok(snapshot) => {
                            is_answered = true;
                            ticks.reset();
                            self.tell(Update::Snapshot(Box::new(snapshot))).await;
                        }
                        Err(failure) => return ControlFlow::Continue(failure),
                    },
                    _ = ticks.tick(), if is_answered => break,
                    _ = looks.tick(), if !is_answered => {
                        if !cluster.is_connected() {
                            self.tell(Update::Lost("the connection is lost, and made again when that is possible".to_owned())).await;
                        } else if asked.elapsed() > SILENT {
                            self.tell(Update::Lost("it is connected and does not answer".to_owned())).await;
                        }
                    }
                    Some(done) = acting.next() => {
                        self.tell(done).await;
                        if is_answered {
                            break;
                        }
                    }
                    question = self.actions.recv() => match question {
                        Some(question) if cluster.is_connected() => acting.push(act(&admin, question)),
                        Some(question) => self.tell(cannot(&question)).await,
                        None => return ControlFlow::Break(()),
                    },
                }
            }
        }
    }

    async fn connect_again(&mut self) -> Result<ControlFlow<(), Cluster>, Failure> {
        loop {
            let dial = self.dial.clone();
            let mut attempt = pin!(async move {
                sleep(BACKOFF).await;
                dial.connect_for_long().await
            });
            let connected = loop {
                tokio::select! {
                    connected = &mut attempt => break connected,
                    question = self.actions.recv() => match question {
                        Some(question) => self.tell(cannot(&question)).await,
                        None => return Ok(ControlFlow::Break(())),
                    },
                }
            };
            match connected {
                Ok(cluster) => return Ok(ControlFlow::Continue(cluster)),
                Err(failure) => self.on_failure(failure).await?,
            }
        }
    }

    /// Passes on what may be over by itself.
    async fn on_failure(&self, failure: Failure) -> Result<(), Failure> {
        if !failure.may_pass() {
            return Err(failure);
        }
        self.tell(Update::Lost(failure.to_string())).await;
        Ok(())
    }

    async fn tell(&self, update: Update) {
        // The other end is gone when all of this is about to be dropped.
        let _ = self.updates.send(update).await;
    }
}

fn cannot(question: &Question) -> Update {
    Update::Done { text: format!("cannot {}: the master is not connected", question.what), is_error: true }
}

async fn act(admin: &AdminClient, question: Question) -> Update {
    let acts = async {
        match question.action {
            Action::Cancel(call) => Ok::<_, Failure>(admin.cancel(call).await?),
            Action::Drain(node) => Ok(admin.drain(node).await?),
            Action::Cordon(node) => Ok(admin.cordon(node).await?),
            Action::Uncordon(node) => Ok(admin.uncordon(node).await?),
        }
    };
    match timeout(LONGEST_ACTION, acts).await {
        Ok(Ok(())) => Update::Done { text: format!("done: {}", question.what), is_error: false },
        Ok(Err(failure)) => Update::Done { text: format!("cannot {}: {failure}", question.what), is_error: true },
        Err(_) => Update::Done {
            text: format!("cannot {}: the master has not answered for {} s", question.what, LONGEST_ACTION.as_secs()),
            is_error: true,
        },
    }
}
