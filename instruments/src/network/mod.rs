//! A network that a test makes for itself and may break: a namespace for a master, one for each node, and between
//! master and node a wire that loses, resets or delays what it carries.
//!
//! ```text
//! master's namespace      namespace of the wires                           node's namespace
//! 10.77.0.1 ══ veth pair ══ macvtap ── relay in this process ── macvtap ══ veth pair ══ 10.77.0.2
//! ```
//!
//! The relay is in user space because then the kernel need only have `veth` and `macvtap`: `sch_netem`, which would
//! delay and lose, is missing from many, and so are the tools that load rules. It is also closer to what happens
//! outside: a packet that a queueing discipline drops on the sender's own machine is reported to the sending TCP,
//! which then repeats it every 500 ms; one that a wire loses is repeated with growing pauses.
//!
//! Nothing of the machine's own network is touched, and no address is used outside the namespaces. A guard removes
//! them however this process ends.

mod guard;
mod lines;
mod lossy;
mod peer;
mod reset;
mod roles;
mod trial;
mod wire;

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
};

pub use lines::{Asked, Line, Told};
pub use lossy::{Lossy, lossy};
pub use peer::Peer;
pub use roles::{master, node};
pub use trial::{Kind, Outcome, Plan, trial};
pub use wire::{Rough, Traffic, Weather, Wire};

use tokio::{io::AsyncWriteExt, process::Command};

/// `O_NONBLOCK` of Linux on x86, ARM, RISC-V, POWER and s390.
const NONBLOCKING: i32 = 0o4000;

/// Namespaces, the wires between them, and what removes them.
#[derive(Debug)]
pub struct Network {
    name: String,
    wires: Vec<Wire>,
    /// Last, so that the wires are let go before their devices are removed.
    _guard: guard::Guard,
}

impl Network {
    /// Makes a master's namespace and as many nodes' (up to 200), joined by wires in clear weather.
    ///
    /// # Errors
    ///
    /// Says what is missing: root, a tool, or a part of the kernel.
    pub async fn new(nodes: usize) -> io::Result<Self> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        if std::fs::metadata("/proc/self")?.uid() != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "only root may make network namespaces"));
        }
        if !(1..=200).contains(&nodes) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a network of {nodes} nodes")));
        }
        let name = format!("distribution-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let guard = guard::Guard::new(&name, nodes)?;
        let mut network = Self { name, wires: Vec::new(), _guard: guard };
        network.join(nodes).await?;
        Ok(network)
    }

    /// The same, or none where this machine cannot make one. In CI that is a failure.
    ///
    /// # Panics
    ///
    /// In CI, if it cannot be made.
    pub async fn for_test(nodes: usize) -> Option<Self> {
        match Self::new(nodes).await {
            Ok(network) => Some(network),
            Err(error) => {
                let forced = std::env::var("CI").is_ok_and(|ci| ci == "true");
                assert!(!forced, "this needs network namespaces: {error}");
                // Past the harness, which keeps to itself what a test that passes prints; at once, for tests run side
                // by side.
                let line = format!("skipped, because namespaces cannot be made here: {error}\n");
                let _ = std::io::Write::write_all(&mut io::stderr(), line.as_bytes());
                None
            }
        }
    }

    /// The master's namespace.
    pub fn master(&self) -> String {
        format!("{}-master", self.name)
    }

    /// A node's namespace, counted from 0.
    pub fn node(&self, number: usize) -> String {
        format!("{}-node{number}", self.name)
    }

    /// The name that all namespaces of this network begin with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The wire between the master and a node.
    ///
    /// # Panics
    ///
    /// If there is no such node.
    pub fn wire(&self, number: usize) -> &Wire {
        &self.wires[number]
    }

    /// Where a node finds the master that listens on this port.
    pub fn master_addr(&self, number: usize, port: u16) -> String {
        format!("10.77.{number}.1:{port}")
    }

    async fn join(&mut self, nodes: usize) -> io::Result<()> {
        let (master, wires) = (self.master(), format!("{}-wires", self.name));
        let mut all = format!("netns add {master}\nnetns add {wires}\n");
        let (mut at_master, mut at_wires) = ("link set dev lo up\n".to_owned(), String::new());
        for number in 0..nodes {
            let node = self.node(number);
            let [one, two] = [mac(number, 1), mac(number, 2)];
            all += &format!(
                "netns add {node}\n\
                 link add name eth{number} netns {master} address {one} type veth peer name a{number} netns {wires}\n\
                 link add name eth0 netns {node} address {two} type veth peer name b{number} netns {wires}\n"
            );
            for side in ["a", "b"] {
                at_wires += &format!(
                    "link set dev {side}{number} up\n\
                     link add link {side}{number} name {side}tap{number} type macvtap mode passthru\n\
                     link set dev {side}tap{number} up\n"
                );
            }
            at_master += &end(&format!("eth{number}"), number, 1, &two);
        }
        run("ip", &["-batch", "-"], &all).await?;
        run("ip", &["-n", &master, "-batch", "-"], &at_master).await?;
        run("ip", &["-n", &wires, "-batch", "-"], &at_wires).await?;
        for number in 0..nodes {
            let commands = end("eth0", number, 2, &mac(number, 1));
            run("ip", &["-n", &self.node(number), "-batch", "-"], &commands).await?;
        }
        for number in 0..nodes {
            let master_end = self.open(&wires, &format!("atap{number}")).await?;
            let node_end = self.open(&wires, &format!("btap{number}")).await?;
            self.wires.push(Wire::new(master_end, node_end)?);
        }
        Ok(())
    }

    /// Opens the device behind a macvtap interface. Its file is made here, because what the system makes by itself
    /// in `/dev` is named by a number that is unique within a namespace only.
    async fn open(&self, namespace: &str, tap: &str) -> io::Result<File> {
        let find = format!("cat /sys/class/net/{tap}/macvtap/tap*/dev");
        let device = run("ip", &["netns", "exec", namespace, "sh", "-c", &find], "").await?;
        let (major, minor) = device.trim().split_once(':').ok_or_else(|| io::Error::other("macvtap has no device"))?;
        let path = format!("/dev/{}-{tap}", self.name);
        run("mknod", &[&path, "c", major, minor], "").await?;
        let opened = OpenOptions::new().read(true).write(true).custom_flags(NONBLOCKING).open(&path);
        std::fs::remove_file(Path::new(&path))?;
        opened.map_err(|error| io::Error::new(error.kind(), format!("{path} ({major}:{minor}): {error}")))
    }
}

/// What `ip -batch` is to do at one end of a wire. The neighbour is told for good, so that a cut is silence and not,
/// some time later, "no route to host"; and TCP makes packets no larger than the wire loses one by one.
fn end(device: &str, number: usize, host: u8, neighbour: &str) -> String {
    let other = 3 - host;
    format!(
        "link set dev {device} gso_max_segs 1\n\
         addr add 10.77.{number}.{host}/24 dev {device}\n\
         link set dev {device} up\n\
         neigh add 10.77.{number}.{other} lladdr {neighbour} dev {device} nud permanent\n"
    )
}

/// A locally administered address.
fn mac(number: usize, host: u8) -> String {
    format!("02:77:00:00:{number:02x}:{host:02x}")
}

/// Runs a tool to its end, and gives its output.
async fn run(program: &str, arguments: &[&str], input: &str) -> io::Result<String> {
    let failed = |what: String| io::Error::other(format!("`{program} {}` {what}", arguments.join(" ")));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("does not start: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that has ended already says why on standard error.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        return Err(failed(format!("failed: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
