//! The admin service: the one service that a master itself serves.
//!
//! Its calls are never sent to a node. A service of a user's program may have the same name: this one has another on the
//! wire.

// The macro makes everything as public as the trait. Only the client is exported.
#![allow(unreachable_pub)]

use std::{sync::LazyLock, time::Duration};

use distribution_macros::service;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::{
    administration::{
        CallFilter, CallPage, CallerInfo, EventCursor, EventPage, FailureGroup, History, HistoryFilter, LogCursor,
        LogFilter, LogPage, LogRecord, MasterStatus, MethodSummary, Metrics, Profile, RunInfo, ServiceSummary,
        TimedEvent, TimelineFilter, TimelinePage, Warning,
    },
    error::{AdminError, CallError, Execution},
    id::{CallId, NodeId},
    security::Operation,
    service::{
        ServiceClient, StreamCall,
        method::{MethodId, MethodInfo},
    },
    view::{NodeInfo, Stats},
};

/// What the service is called on the wire.
pub(crate) const ADMIN_SERVICE: &str = "distribution.Admin";

/// Looks at a cluster and changes it.
#[service(name = "distribution.Admin")]
pub trait Admin {
    /// The registered nodes, in the order in which they registered, with their addresses.
    #[rpc(idempotent)]
    fn nodes(&self) -> Vec<NodeInfo>;

    /// Some of the calls that have not ended, the oldest first: what each does, and what it waits for. See
    /// [`Master::calls`](crate::Master::calls).
    #[rpc(idempotent)]
    fn calls(&self, filter: CallFilter) -> CallPage;

    /// The methods that nodes serve or that calls wait for. See [`Master::methods`](crate::Master::methods).
    #[rpc(idempotent)]
    fn methods(&self) -> Vec<MethodSummary>;

    /// The services that nodes serve or that calls wait for. See [`Master::services`](crate::Master::services).
    #[rpc(idempotent)]
    fn services(&self) -> Vec<ServiceSummary>;

    /// The callers in other processes that are connected. See [`Master::callers`](crate::Master::callers).
    #[rpc(idempotent)]
    fn callers(&self) -> Vec<CallerInfo>;

    /// What has happened to the nodes since an earlier page, or, without its [`next`](EventPage::next), first the nodes that
    /// are registered. A page comes when something has happened. [`events`](AdminClient::events) reads them.
    ///
    /// The master keeps the newest 1,024 events. If more have happened since the earlier page, the page begins with
    /// [`NodeEvent::Missed`](crate::NodeEvent::Missed), and the nodes that are registered by then. It does so too, with
    /// `Missed(0)`, if the earlier page was from another run of the master.
    /// Without a timeout of its own it has none, whatever the master's
    /// [`default_timeout`](crate::MasterBuilder::default_timeout) is.
    #[rpc(idempotent)]
    fn event_pages(&self, after: Option<EventCursor>) -> impl Stream<Item = EventPage> + Send;

    /// What has happened to the nodes before now: the newest events, at most `most`. The master keeps 1,024. What comes after them
    /// is told by [`events_after`](AdminClient::events_after) with the page's [`next`](EventPage::next).
    #[rpc(idempotent)]
    fn past_events(&self, most: u64) -> EventPage;

    /// What nodes and their handlers have logged, after the place where an earlier page ended. A filter that follows has pages
    /// without an end, each of which comes when there are records; else they end with the records that the master has kept.
    /// [`logs`](AdminClient::logs) reads them.
    ///
    /// If the earlier page was from another run of the master, it begins again. Without a timeout of its own it has none,
    /// whatever the master's [`default_timeout`](crate::MasterBuilder::default_timeout) is.
    #[rpc(idempotent)]
    fn log_pages(&self, filter: LogFilter, after: Option<LogCursor>) -> impl Stream<Item = LogPage> + Send;

    /// Totals since the master started.
    #[rpc(idempotent)]
    fn stats(&self) -> Stats;

    /// What the master is, and how many nodes and callers are connected to it.
    #[rpc(idempotent)]
    fn status(&self) -> MasterStatus;

    /// All counts since the master started. See [`Master::metrics`](crate::Master::metrics).
    #[rpc(idempotent)]
    fn metrics(&self) -> Metrics;

    /// How the cluster did in the last hour or day. See [`Master::history`](crate::Master::history).
    #[rpc(idempotent)]
    fn history(&self, filter: HistoryFilter) -> History;

    /// What ran on which slot. See [`Master::timeline`](crate::Master::timeline).
    #[rpc(idempotent)]
    fn timeline(&self, filter: TimelineFilter) -> TimelinePage;

    /// The calls that failed, in groups. See [`Master::failures`](crate::Master::failures).
    #[rpc(idempotent)]
    fn failures(&self) -> Vec<FailureGroup>;

    /// What looks wrong in the cluster now. See [`Master::warnings`](crate::Master::warnings).
    #[rpc(idempotent)]
    fn warnings(&self) -> Vec<Warning>;

    /// The runs of many calls that have a name. See [`Master::runs`](crate::Master::runs).
    #[rpc(idempotent)]
    fn runs(&self) -> Vec<RunInfo>;

    /// Which code a node's process runs, for as long, and what its handlers are doing at the end. See
    /// [`Master::profile`](crate::Master::profile).
    ///
    /// A timeout of the call, or the master's [`default_timeout`](crate::MasterBuilder::default_timeout), has to be longer: a node
    /// may take some seconds to look names up.
    #[rpc(idempotent)]
    async fn profile(&self, node: NodeId, length: Duration) -> Result<Profile, AdminError>;

    /// Cancels a call of any caller. It ends as [`CallError::Cancelled`](crate::CallError::Cancelled), which names the
    /// credential of the administrator. See [`Master::cancel`](crate::Master::cancel).
    fn cancel(&self, call: CallId) -> Result<(), AdminError>;

    /// Tells a node to drain. See [`Master::drain`](crate::Master::drain).
    #[rpc(idempotent)]
    fn drain(&self, node: NodeId) -> Result<(), AdminError>;

    /// Gives a node no new calls. See [`Master::cordon`](crate::Master::cordon).
    #[rpc(idempotent)]
    fn cordon(&self, node: NodeId) -> Result<(), AdminError>;

    /// Gives a node that was cordoned new calls again. See [`Master::uncordon`](crate::Master::uncordon).
    #[rpc(idempotent)]
    fn uncordon(&self, node: NodeId) -> Result<(), AdminError>;

    /// Ends the registration of a node at once. See [`Master::kick`](crate::Master::kick).
    fn kick(&self, node: NodeId) -> Result<(), AdminError>;
}

impl AdminClient {
    /// The nodes that are registered, and then each change, as [`Master::events`](crate::Master::events) tells them in the
    /// master's process, each with its time. It asks for the nodes when it is first polled, and ends after an error.
    ///
    /// It goes on when the connection was lost and made again. After
    /// [`NodeEvent::Missed`](crate::NodeEvent::Missed) it begins again with the nodes that are registered by then: it was
    /// read too slowly, or another run of the master answers.
    ///
    /// # Errors
    ///
    /// As for each call of this client: [`Denied`](CallError::Denied) if the caller may not administer,
    /// [`MasterLost`](CallError::MasterLost) and [`Shutdown`](CallError::Shutdown) when the master is gone.
    ///
    /// ```
    /// # use distribution::{AdminClient, Cluster, LocalCluster, NodeEvent};
    /// use futures::TryStreamExt;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let local = LocalCluster::builder().nodes(1).start().await?;
    /// # let addr = local.master().local_addr();
    /// let cluster = Cluster::connect(addr).await?;
    /// let mut events = AdminClient::new(&cluster).events();
    /// let first = events.try_next().await?.ok_or("ends with an error only")?;
    /// println!("{} s since 1970: {}", first.at.as_secs(), first.event);
    /// # assert!(matches!(first.event, NodeEvent::Present { .. }));
    /// # Ok(()) }
    /// ```
    pub fn events(&self) -> impl Stream<Item = Result<TimedEvent, CallError>> + Send + Unpin + use<> {
        self.events_from(None)
    }

    /// Each change after a page of [`past_events`](Self::past_events), without the nodes that are registered. Otherwise as
    /// [`events`](Self::events).
    ///
    /// # Errors
    ///
    /// As [`events`](Self::events).
    ///
    /// ```
    /// # use distribution::{AdminClient, Cluster, LocalCluster, NodeEvent};
    /// # use futures::TryStreamExt;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let local = LocalCluster::builder().nodes(1).start().await?;
    /// # let addr = local.master().local_addr();
    /// let cluster = Cluster::connect(addr).await?;
    /// let admin = AdminClient::new(&cluster);
    /// let past = admin.past_events(100).await?;
    /// for happened in &past.events {
    ///     println!("{} s since 1970: {}", happened.at.as_secs(), happened.event);
    /// }
    /// let mut events = admin.events_after(past.next);
    /// # assert!(matches!(past.events[0].event, NodeEvent::Joined { .. }));
    /// # local.master().cordon(local.nodes()[0].id())?;
    /// let next = events.try_next().await?;
    /// # assert!(matches!(next.ok_or("is there")?.event, NodeEvent::Cordoned { .. }));
    /// # Ok(()) }
    /// ```
    pub fn events_after(
        &self,
        after: EventCursor,
    ) -> impl Stream<Item = Result<TimedEvent, CallError>> + Send + Unpin + use<> {
        self.events_from(Some(after))
    }

    fn events_from(
        &self,
        after: Option<EventCursor>,
    ) -> impl Stream<Item = Result<TimedEvent, CallError>> + Send + Unpin + use<> {
        let begin = (self.clone(), after, None);
        let pages = stream::try_unfold(begin, |(admin, mut after, mut pages): Following| async move {
            loop {
                let open = pages.get_or_insert_with(|| admin.event_pages(after));
                match open.try_next().await {
                    Ok(Some(page)) => {
                        after = Some(page.next);
                        return Ok(Some((stream::iter(page.events).map(Ok), (admin, after, pages))));
                    }
                    // The connection has broken under it, or the master ended it. It goes on where it was.
                    Err(CallError::MasterLost { execution: Execution::MayHaveRun, .. }) | Ok(None) => pages = None,
                    Err(error) => return Err(error),
                }
            }
        });
        Box::pin(pages.try_flatten())
    }
}

impl AdminClient {
    /// What nodes and their handlers have logged, oldest first: the newest that the master has kept, and then, if the filter
    /// [follows](LogFilter::follow), each that comes, without an end. It asks when it is first polled, and ends after an error.
    ///
    /// Nodes send what their handlers log if their program has installed `distribution::logs::layer()` (feature `logs`). That
    /// a handler has panicked is sent by each node.
    ///
    /// It goes on when the connection was lost and made again. A reader that is too slow misses records: a record of level
    /// `warn` with the target `distribution::logs` says how many.
    ///
    /// # Errors
    ///
    /// As for each call of this client: [`Denied`](CallError::Denied) if the caller may not administer,
    /// [`MasterLost`](CallError::MasterLost) and [`Shutdown`](CallError::Shutdown) when the master is gone.
    ///
    /// ```
    /// # use distribution::{AdminClient, Cluster, LocalCluster, LogFilter, administration::LogLevel};
    /// use futures::TryStreamExt;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let local = LocalCluster::builder().nodes(1).start().await?;
    /// # let addr = local.master().local_addr();
    /// let cluster = Cluster::connect(addr).await?;
    /// let filter = LogFilter::default().method("Arith").level(LogLevel::Warn);
    /// let mut logs = AdminClient::new(&cluster).logs(filter);
    /// while let Some(record) = logs.try_next().await? {
    ///     println!("{record}");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn logs(&self, filter: LogFilter) -> impl Stream<Item = Result<LogRecord, CallError>> + Send + Unpin + use<> {
        let reading = ReadingLogs { admin: self.clone(), filter, after: None, pages: None };
        let pages = stream::try_unfold(reading, |mut reading| async move {
            loop {
                let open = match &mut reading.pages {
                    Some(open) => open,
                    None => {
                        let pages = reading.admin.log_pages(reading.filter.clone(), reading.after);
                        reading.pages.insert(pages)
                    }
                };
                match open.try_next().await {
                    Ok(Some(page)) => {
                        reading.after = Some(page.next);
                        return Ok(Some((stream::iter(page.into_records()).map(Ok), reading)));
                    }
                    Ok(None) if !reading.filter.follow => return Ok(None),
                    // The connection has broken under it, or the master ended it. It goes on where it was.
                    Err(CallError::MasterLost { execution: Execution::MayHaveRun, .. }) | Ok(None) => {
                        reading.pages = None;
                    }
                    Err(error) => return Err(error),
                }
            }
        });
        Box::pin(pages.try_flatten())
    }
}

/// What a reader of logs has: the client, what it wants, where its last page ended, and the pages that come.
struct ReadingLogs {
    admin: AdminClient,
    filter: LogFilter,
    after: Option<LogCursor>,
    pages: Option<StreamCall<LogPage>>,
}

/// What a reader of events has: the client, where its last page ended, and the pages that come.
type Following = (AdminClient, Option<EventCursor>, Option<StreamCall<EventPage>>);

/// The methods of the service, as this version of the crate serves them.
static METHODS: LazyLock<Vec<MethodId>> =
    LazyLock::new(|| <AdminClient as ServiceClient>::methods().into_vec().iter().map(|method| method.id()).collect());

/// Whether the master itself answers calls of the method with this id.
pub(crate) fn is_served(method: MethodId) -> bool {
    METHODS.contains(&method)
}

/// The methods that only look. All others change something, those of later versions too.
const LOOKING: [&str; 16] = [
    "nodes",
    "calls",
    "methods",
    "services",
    "callers",
    "event_pages",
    "past_events",
    "log_pages",
    "stats",
    "status",
    "metrics",
    "history",
    "timeline",
    "failures",
    "warnings",
    "runs",
];

/// What a caller wants to do by a call of this method, if it is one of this service.
pub(crate) fn operation(method: &MethodInfo) -> Option<Operation> {
    let looks = LOOKING.contains(&method.name().method());
    is_of_admin_service(method).then_some(if looks { Operation::View } else { Operation::Administer })
}

/// Whether a method is one of this service, in whatever version. Calls of it go to no node.
pub(crate) fn is_of_admin_service(method: &MethodInfo) -> bool {
    method.name().service() == ADMIN_SERVICE
}
