//! Profiles of nodes: asks a node for one, and puts its names in place.

use std::time::Duration;

use super::{administrator::Administrator, awaited_profile::LOST, shared::Shared};
use crate::{
    administration::{HandlerStack, Profile, ProfileStack},
    error::AdminError,
    id::{CallId, NodeId, NodeIdentity},
    text::in_one_line,
    wire::{
        Control, codec,
        profile::{DEEPEST, LONGEST_NAME, LONGEST_SAMPLING, MOST_TEXT, ProfileReply, SentProfile},
    },
};

/// How long a node may take to look names up and to send its profile, once it has taken all samples.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The most bytes of the reason why a node has taken none.
const LONGEST_REASON: usize = 1024;

/// The most stacks and handlers of a profile.
const MOST_STACKS: usize = 100_000;

impl Shared {
    pub(super) async fn profile(
        &self,
        by: &Administrator,
        node: NodeId,
        length: Duration,
    ) -> Result<Profile, AdminError> {
        by.audit("profile", node, self.take_profile(node, length).await)
    }

    async fn take_profile(&self, node: NodeId, length: Duration) -> Result<Profile, AdminError> {
        let (identity, link) = {
            let locked = self.lock();
            locked.core.link_of(node).ok_or(AdminError::UnknownNode { node })?
        };
        let failed = |reason: &str| AdminError::NotProfiled {
            node: identity.clone(),
            reason: in_one_line(reason, LONGEST_REASON),
        };
        if length.is_zero() || length > LONGEST_SAMPLING {
            return Err(failed(&format!("samples are taken for up to {} s", LONGEST_SAMPLING.as_secs())));
        }
        let mut asked = link.profiles.ask().map_err(failed)?;
        let milliseconds = u32::try_from(length.as_millis()).unwrap_or(u32::MAX).max(1);
        link.state.send(Control::TakeProfile { profile: asked.profile, milliseconds });
        match tokio::time::timeout(length + ANSWER_TIMEOUT, &mut asked.answer).await {
            Ok(Ok(bytes)) => {
                // Not on this task's thread: what a node sends may be large.
                let read = tokio::task::spawn_blocking({
                    let identity = identity.clone();
                    move || read(&identity, &bytes)
                });
                let read = read.await.unwrap_or_else(|_| Err("what it sent cannot be read".to_owned()));
                read.map_err(|reason| failed(&reason))
            }
            Ok(Err(_)) => Err(failed(LOST)),
            Err(_) => {
                Err(failed("it did not answer: its release of `distribution` is older than profiles, or it is stopped"))
            }
        }
    }
}

/// The profile that a node has sent.
///
/// # Errors
///
/// Why the node has taken none, or what is wrong with it.
fn read(node: &NodeIdentity, bytes: &[u8]) -> Result<Profile, String> {
    let reply: ProfileReply =
        codec::decode_payload(bytes).map_err(|error| format!("it sent a profile that is none: {error}"))?;
    expanded(node, reply?)
}

/// The profile with its names in place.
///
/// # Errors
///
/// If it breaks a limit.
fn expanded(node: &NodeIdentity, sent: SentProfile) -> Result<Profile, String> {
    let SentProfile { length, frequency, left_out, missed, names, stacks, handlers } = sent;
    let is_deep = |frames: &[u32]| frames.len() > DEEPEST;
    let breaks_limits = stacks.len() > MOST_STACKS
        || handlers.len() > MOST_STACKS
        || names.iter().any(|name| name.len() > LONGEST_NAME)
        || stacks.iter().any(|stack| is_deep(&stack.frames))
        || handlers.iter().any(|handler| is_deep(&handler.frames));
    if breaks_limits {
        return Err("it sent a profile that breaks the limits of one".to_owned());
    }
    // Names that are chosen badly could fill a terminal with colours, or worse.
    let names: Vec<_> = names.into_iter().map(|name| in_one_line(&name, LONGEST_NAME)).collect();
    let mut text = 0;
    let mut name = |place: u32| {
        let name = names.get(place as usize).ok_or("it sent a profile in which a name is missing")?;
        text += name.len() + size_of::<String>();
        // Escaped names are longer, and a node counts none of those of handlers.
        match text > 4 * MOST_TEXT {
            true => Err("it sent a profile that is too large"),
            false => Ok(name.clone()),
        }
    };
    let mut shown_stacks = Vec::with_capacity(stacks.len());
    for stack in stacks {
        let frames: Result<_, _> = stack.frames.into_iter().map(&mut name).collect();
        shown_stacks.push(ProfileStack { frames: frames?, samples: stack.samples });
    }
    let mut shown_handlers = Vec::with_capacity(handlers.len());
    for handler in handlers {
        let frames: Result<_, _> = handler.frames.into_iter().map(&mut name).collect();
        shown_handlers.push(HandlerStack {
            call: CallId(handler.call),
            attempt: handler.attempt,
            method: name(handler.method)?,
            thread: name(handler.thread)?,
            running: Duration::from_millis(handler.running),
            state: handler.state,
            cpu: handler.cpu.map(|thousandths| f64::from(thousandths) / 1e3),
            frames: frames?,
        });
    }
    let samples = shown_stacks.iter().map(|stack| stack.samples).fold(left_out, u64::saturating_add);
    Ok(Profile {
        node: node.id,
        name: node.name.to_string(),
        length: Duration::from_millis(length.into()),
        frequency,
        samples,
        left_out,
        missed,
        stacks: shown_stacks,
        handlers: shown_handlers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        administration::ThreadState,
        wire::profile::{SentHandler, SentStack},
    };

    fn node() -> NodeIdentity {
        NodeIdentity { id: NodeId::new(1, 1), name: "a".into(), addr: ([127, 0, 0, 1], 9).into() }
    }

    #[test]
    fn a_profile_that_breaks_a_limit_is_refused() {
        let few_bytes_but_much_text = SentProfile {
            names: vec!["x".repeat(LONGEST_NAME)],
            stacks: vec![SentStack { frames: vec![0; DEEPEST], samples: 1 }; 1024],
            ..SentProfile::default()
        };
        assert!(expanded(&node(), few_bytes_but_much_text).is_err());
        let deep = SentStack { frames: vec![0; DEEPEST + 1], samples: 1 };
        let deep = SentProfile { names: vec!["x".into()], stacks: vec![deep], ..SentProfile::default() };
        assert!(expanded(&node(), deep).is_err());
        assert!(read(&node(), &[7; 3]).is_err());
        let missing = SentStack { frames: vec![1], samples: 1 };
        let missing = SentProfile { names: vec!["x".into()], stacks: vec![missing], ..SentProfile::default() };
        assert!(expanded(&node(), missing).is_err());
    }

    #[test]
    fn names_come_to_their_places_and_are_escaped() {
        let sent = SentProfile {
            length: 1_500,
            left_out: 3,
            names: vec!["worker\u{1b}[2J".into(), "main".into(), "Arith.sum".into()],
            stacks: vec![SentStack { frames: vec![0, 1], samples: 40 }],
            handlers: vec![SentHandler {
                call: 7,
                attempt: 1,
                method: 2,
                thread: 0,
                running: 2_000,
                state: ThreadState::Sleeping,
                cpu: Some(250),
                frames: vec![1],
            }],
            ..SentProfile::default()
        };
        let profile = expanded(&node(), sent).expect("is one");
        assert_eq!((profile.samples, profile.length), (43, Duration::from_millis(1_500)));
        assert_eq!(profile.stacks[0].frames[1], "main");
        assert!(!profile.stacks[0].frames[0].contains('\u{1b}'));
        let handler = &profile.handlers[0];
        assert_eq!((&*handler.method, handler.cpu, &*handler.frames[0]), ("Arith.sum", Some(0.25), "main"));
    }
}
