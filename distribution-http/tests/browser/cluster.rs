//! The cluster that the tests look at: a master and nodes in this process, and the page's own server.

use std::{net::UdpSocket, time::Duration};

use distribution::{Master, Node, NodeId};
use distribution_http::PageBuilder;
use distribution_tests::{
    event, soon,
    trust::{Authority, Purpose},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Methods that do what there has to be something to see of.
#[distribution::service]
pub(crate) trait Work {
    /// Never ends by itself.
    async fn stuck(&self);

    /// Takes this long, on a slot.
    fn crunch(&self, millis: u64) -> u64;

    /// Panics with this message.
    fn fail(&self, message: String) -> u64;
}

struct Worker;

impl Work for Worker {
    async fn stuck(&self) {
        std::future::pending().await
    }

    fn crunch(&self, millis: u64) -> u64 {
        // This is the call's work: a slot that is taken for some time. No test waits by it.
        std::thread::sleep(Duration::from_millis(millis));
        millis
    }

    fn fail(&self, message: String) -> u64 {
        panic!("{message}")
    }
}

/// A cluster and its page.
pub(crate) struct Running {
    pub(crate) master: Master,
    /// Where the page is, with a slash at the end.
    pub(crate) url: String,
    pub(crate) work: WorkClient,
    end: CancellationToken,
    serving: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(page: impl FnOnce(PageBuilder) -> PageBuilder) -> Self {
        Self::start_on("127.0.0.1:0", page).await
    }

    /// The same, with the page at this address; on all addresses, it is looked at by one that is not of loopback.
    pub(crate) async fn start_on(addr: &str, page: impl FnOnce(PageBuilder) -> PageBuilder) -> Self {
        let master = Master::builder().no_node_timeout(Duration::MAX).bind("127.0.0.1:0").await.expect("binds");
        let server = page(PageBuilder::new(&master)).bind(addr).await.expect("listens");
        let url = server.url().replace("0.0.0.0", &own_address());
        let end = CancellationToken::new();
        let serving = tokio::spawn(server.run_until(end.clone().cancelled_owned()));
        let work = WorkClient::new(&master);
        Self { master, url, work, end, serving }
    }

    /// The same with TLS, at all addresses. With the tokens of admins and of viewers.
    pub(crate) async fn start_beyond_loopback() -> (Self, String, String) {
        let (admin, viewer) = ("a".repeat(40), "v".repeat(40));
        let authority = Authority::new("Page");
        let _ = authority.issue("page", Purpose::Server, &["localhost"]);
        let (certificate, key) = (authority.path("page", "pem"), authority.path("page", "key"));
        let page = |page: PageBuilder| page.admin_token(&admin).viewer_token(&viewer).certificate(&certificate, &key);
        (Self::start_on("0.0.0.0:0", page).await, admin, viewer)
    }

    /// Where the page's server listens.
    pub(crate) fn addr(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches('/')
    }

    /// Starts a node of this name with two slots.
    pub(crate) async fn node(&self, name: &str) -> Node {
        let mut events = self.master.events();
        let node = Node::builder().serve(WorkServer::new(Worker)).name(name).slots(2).label("zone", "eu");
        let node = soon("the node", node.spawn(self.master.local_addr())).await.expect("registers");
        event(&mut events, "the node", |event| event.node().is_some_and(|node| &*node.name == name)).await;
        node
    }

    /// Ends the page's server and the master.
    pub(crate) async fn stop(mut self) {
        self.end.cancel();
        let _ = soon("the server ends", &mut self.serving).await;
    }

    pub(crate) fn id_of(&self, name: &str) -> NodeId {
        let nodes = self.master.nodes();
        nodes.iter().find(|node| &*node.name == name).expect("is registered").id
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// An address of this machine by which others reach it. Nothing is sent to find it out.
fn own_address() -> String {
    let route = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    };
    route().map_or_else(|_| "127.0.0.1".to_owned(), |addr: std::net::SocketAddr| addr.ip().to_string())
}
