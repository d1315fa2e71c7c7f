//! The guide: one page for each question that people have, in the order in which they usually have them.
//!
//! | page | the question it answers |
//! |---|---|
//! | [first_cluster] | How do I get from a trait to a running cluster? |
//! | [compute_or_async] | Should my method be a `fn` or an `async fn`? |
//! | [errors_and_retries] | A call failed. Did it run, and may I call again? |
//! | [many_calls] | How do I run a million calls? |
//! | [over_machines] | How do I run nodes on other machines? |
//! | [callers] | How do I make calls from another process than the master's? |
//! | [nested_calls] | How does a handler make calls? |
//! | [streams] | How do I return or take more than fits into memory, or results as they come? |
//! | [metadata] | How do I send a request id, a tenant or the like along with a call? |
//! | [versions] | How do I change a service without stopping it? |
//! | [testing] | How do I test my service, and code that calls it? |
//! | [logging] | What does the cluster tell me, and how do I see it? |
//! | [metrics] | How fast is it, what fails, and what looks wrong? |
//! | [traces] | Where in a tree of calls, over many processes, did the time go? |
//! | [operating] | Something runs. How do I see what it does, and step in? |
//! | [settings] | What can I set, and what happens at the limit? |
//! | [troubleshooting] | Something does not work. Where do I look? |
//!
//! The code on these pages is compiled, and run where that needs no second machine.

#[cfg_attr(feature = "tls", doc = include_str!("callers.md"))]
#[cfg_attr(not(feature = "tls"), doc = "This page needs the feature `tls`, which is on by default.")]
pub mod callers {}

#[doc = include_str!("compute_or_async.md")]
pub mod compute_or_async {}

#[doc = include_str!("errors_and_retries.md")]
pub mod errors_and_retries {}

#[doc = include_str!("first_cluster.md")]
pub mod first_cluster {}

#[doc = include_str!("logging.md")]
pub mod logging {}

#[doc = include_str!("many_calls.md")]
pub mod many_calls {}

#[doc = include_str!("metadata.md")]
pub mod metadata {}

#[doc = include_str!("metrics.md")]
pub mod metrics {}

#[doc = include_str!("nested_calls.md")]
pub mod nested_calls {}

#[doc = include_str!("streams.md")]
pub mod streams {}

#[doc = include_str!("operating.md")]
pub mod operating {}

#[cfg_attr(feature = "tls", doc = include_str!("over_machines.md"))]
#[cfg_attr(not(feature = "tls"), doc = "This page needs the feature `tls`, which is on by default.")]
pub mod over_machines {}

#[doc = include_str!("settings.md")]
pub mod settings {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("traces.md")]
pub mod traces {}

#[doc = include_str!("troubleshooting.md")]
pub mod troubleshooting {}

#[doc = include_str!("versions.md")]
pub mod versions {}
