//! `distribution master`: runs a master with the settings of its builder, until a signal.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use distribution::{Access, CallerRights, Master, MasterBuilder, Token};
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    arguments::CertificateFiles,
    failure::{Failure, Kind},
    output::print,
    page::PageOptions,
    signals::Signals,
    units::{parse_size, parse_time},
};

/// The settings of a master. Each is described at the method of `MasterBuilder` that has its name.
#[derive(Args, Debug)]
pub(crate) struct MasterOptions {
    /// Where nodes and callers connect. Port 0 lets the system choose one.
    #[arg(long, value_name = "HOST:PORT", env = "DISTRIBUTION_LISTEN", default_value = "127.0.0.1:3000")]
    listen: String,
    /// What is logged on standard error: a level, or levels for targets (`warn,distribution::audit=info`).
    #[arg(long, value_name = "FILTER", env = "DISTRIBUTION_LOG", default_value = "info")]
    log: String,

    /// Accept only peers with a token of this file. It is made if it does not exist.
    #[arg(long, value_name = "FILE", env = "DISTRIBUTION_TOKEN_FILE", conflicts_with = "authority")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    certificates: CertificateFiles,
    #[command(flatten)]
    page: PageOptions,
    /// Accept peers with a certificate for this name as callers.
    #[arg(long, value_name = "NAME", env = "DISTRIBUTION_CALLERS", value_delimiter = ',', requires = "authority")]
    callers: Vec<String>,
    /// The same, with rights as a token file has them: `web.internal services=Arith deny=on max_calls=100`. May be given several
    /// times.
    #[arg(long, value_name = "NAME RIGHTS", env = "DISTRIBUTION_CALLER_RIGHTS", value_delimiter = ';', requires = "authority", value_parser = parse_caller)]
    caller_rights: Vec<RestrictedCaller>,
    /// Accept peers with a certificate for this name as administrators.
    #[arg(long, value_name = "NAME", env = "DISTRIBUTION_ADMINS", value_delimiter = ',', requires = "authority")]
    admins: Vec<String>,
    /// Accept peers with a certificate for this name as viewers, who change nothing.
    #[arg(long, value_name = "NAME", env = "DISTRIBUTION_VIEWERS", value_delimiter = ',', requires = "authority")]
    viewers: Vec<String>,
    /// Listen beyond loopback without any security.
    #[arg(long, env = "DISTRIBUTION_INSECURE")]
    insecure: bool,
    /// Accept a node only under a name that its credential is for.
    #[arg(long, env = "DISTRIBUTION_BIND_NAMES")]
    bind_names: bool,
    /// Allow a label only to nodes whose credential is for one of these names: `gpu=a100:n1:n2`. May be given several times.
    #[arg(long, value_name = "KEY=VALUE:NAME..", env = "DISTRIBUTION_RESTRICT_LABEL", value_delimiter = ',', value_parser = parse_restriction)]
    restrict_label: Vec<Restriction>,
    /// Tell callers the addresses of nodes.
    #[arg(long, env = "DISTRIBUTION_EXPOSE_NODE_ADDRESSES")]
    expose_node_addresses: bool,

    /// How often each node sends a heartbeat; 1s by default.
    #[arg(long, value_name = "TIME", env = "DISTRIBUTION_HEARTBEAT", value_parser = parse_time)]
    heartbeat: Option<Duration>,
    /// How long a call waits if no node serves its method; 5s by default.
    #[arg(long, value_name = "TIME", env = "DISTRIBUTION_NO_NODE_TIMEOUT", value_parser = parse_time)]
    no_node_timeout: Option<Duration>,
    /// How long the master waits for a node with calls whose connection has broken; 2s by default.
    #[arg(long, value_name = "TIME", env = "DISTRIBUTION_RECONNECT_GRACE", value_parser = parse_time)]
    reconnect_grace: Option<Duration>,
    /// How long it keeps the calls of a caller whose connection has broken; 30s by default.
    #[arg(long, value_name = "TIME", env = "DISTRIBUTION_RESUME_TIMEOUT", value_parser = parse_time)]
    resume_timeout: Option<Duration>,
    /// The timeout of calls that have none of their own; none by default.
    #[arg(long, value_name = "TIME", env = "DISTRIBUTION_DEFAULT_TIMEOUT", value_parser = parse_time)]
    default_timeout: Option<Duration>,
    /// How long calls in flight may take when the master shuts down; 30s by default.
    #[arg(long, value_name = "TIME", env = "DISTRIBUTION_SHUTDOWN_TIMEOUT", value_parser = parse_time)]
    shutdown_timeout: Option<Duration>,
    /// How long a connection may take to register; 5s by default.
    #[arg(long, value_name = "TIME", env = "DISTRIBUTION_HANDSHAKE_TIMEOUT", value_parser = parse_time)]
    handshake_timeout: Option<Duration>,
    /// How long a node may take to finish a message that it has begun; 30s by default.
    #[arg(long, value_name = "TIME", env = "DISTRIBUTION_READ_TIMEOUT", value_parser = parse_time)]
    read_timeout: Option<Duration>,
    /// How long a node may read nothing of what it is sent; 10s by default.
    #[arg(long, value_name = "TIME", env = "DISTRIBUTION_WRITE_TIMEOUT", value_parser = parse_time)]
    write_timeout: Option<Duration>,

    /// How many calls may wait; 65536 by default.
    #[arg(long, value_name = "CALLS", env = "DISTRIBUTION_MAX_QUEUED_CALLS")]
    max_queued_calls: Option<usize>,
    /// How many bytes of arguments may wait; 1GiB by default.
    #[arg(long, value_name = "SIZE", env = "DISTRIBUTION_MAX_QUEUED_BYTES", value_parser = parse_size)]
    max_queued_bytes: Option<usize>,
    /// How many calls of one caller may wait; a quarter of max-queued-calls by default.
    #[arg(long, value_name = "CALLS", env = "DISTRIBUTION_MAX_QUEUED_CALLS_PER_CALLER")]
    max_queued_calls_per_caller: Option<usize>,
    /// How many bytes of arguments of one caller may wait; a quarter of max-queued-bytes by default.
    #[arg(long, value_name = "SIZE", env = "DISTRIBUTION_MAX_QUEUED_BYTES_PER_CALLER", value_parser = parse_size)]
    max_queued_bytes_per_caller: Option<usize>,
    /// The largest message; 1GiB by default.
    #[arg(long, value_name = "SIZE", env = "DISTRIBUTION_MAX_MESSAGE_SIZE", value_parser = parse_size)]
    max_message_size: Option<usize>,
    /// How many bytes of large messages may be received at a time; 1GiB by default.
    #[arg(long, value_name = "SIZE", env = "DISTRIBUTION_MAX_IN_FLIGHT_BYTES", value_parser = parse_size)]
    max_in_flight_bytes: Option<usize>,
    /// How deeply a value may be nested; 128 by default.
    #[arg(long, value_name = "LEVELS", env = "DISTRIBUTION_MAX_DEPTH")]
    max_depth: Option<u16>,
    /// How many nodes may be registered; 16384 by default.
    #[arg(long, value_name = "NODES", env = "DISTRIBUTION_MAX_NODES")]
    max_nodes: Option<usize>,
    /// How many nodes may be registered with one credential; as many as in all by default.
    #[arg(long, value_name = "NODES", env = "DISTRIBUTION_MAX_NODES_PER_CREDENTIAL")]
    max_nodes_per_credential: Option<usize>,
    /// How many slots one node may have; 1024 by default.
    #[arg(long, value_name = "SLOTS", env = "DISTRIBUTION_MAX_SLOTS_PER_NODE")]
    max_slots_per_node: Option<u32>,
    /// How many pending handshakes there may be; 256 by default.
    #[arg(long, value_name = "CONNECTIONS", env = "DISTRIBUTION_MAX_HANDSHAKES")]
    max_handshakes: Option<usize>,
    /// How many pending handshakes one address may have; 32 by default.
    #[arg(long, value_name = "CONNECTIONS", env = "DISTRIBUTION_MAX_HANDSHAKES_PER_ADDRESS")]
    max_handshakes_per_address: Option<usize>,
    /// How many TLS handshakes are begun in a second; 1000 by default.
    #[arg(long, value_name = "HANDSHAKES", env = "DISTRIBUTION_MAX_HANDSHAKES_PER_SECOND")]
    max_handshakes_per_second: Option<u32>,
    /// How many handshakes a minute from one address may fail before the next ones are delayed; 10 by default.
    #[arg(long, value_name = "FAILURES", env = "DISTRIBUTION_MAX_HANDSHAKE_FAILURES")]
    max_handshake_failures: Option<u32>,
    /// Seeds all random numbers, so that a run can be repeated.
    #[arg(long, value_name = "NUMBER", env = "DISTRIBUTION_SEED")]
    seed: Option<u64>,
}

/// A label that only some nodes may have.
#[derive(Clone, Debug)]
struct Restriction {
    key: String,
    value: String,
    names: Vec<String>,
}

fn parse_restriction(text: &str) -> Result<Restriction, String> {
    let parse = || {
        let (key, rest) = text.split_once('=')?;
        let (value, names) = rest.split_once(':')?;
        let names = names.split(':').map(str::to_owned).collect();
        Some(Restriction { key: key.to_owned(), value: value.to_owned(), names })
    };
    parse().ok_or_else(|| "it looks like this: gpu=a100:n1:n2".to_owned())
}

/// A name of certificates, and what callers with it may do.
#[derive(Clone, Debug)]
struct RestrictedCaller {
    name: String,
    rights: CallerRights,
}

fn parse_caller(text: &str) -> Result<RestrictedCaller, String> {
    let text = text.trim();
    let (name, rights) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rights = rights.parse().map_err(|error: distribution::Error| error.to_string())?;
    Ok(RestrictedCaller { name: name.to_owned(), rights })
}

/// Calls the setter of each option that is set.
macro_rules! set {
    ($builder:ident, $options:ident: $($name:ident),* $(,)?) => {
        $(if let Some(value) = $options.$name { $builder = $builder.$name(value); })*
    };
}

impl MasterOptions {
    fn into_builder(self) -> MasterBuilder {
        let (mut builder, options) = (Master::builder(), self);
        set!(builder, options:
            token_file, heartbeat, no_node_timeout, reconnect_grace, resume_timeout, default_timeout, shutdown_timeout, handshake_timeout, read_timeout,
            write_timeout, max_queued_calls, max_queued_bytes, max_queued_calls_per_caller, max_queued_bytes_per_caller,
            max_message_size, max_in_flight_bytes, max_depth, max_nodes, max_nodes_per_credential, max_slots_per_node,
            max_handshakes, max_handshakes_per_address, max_handshakes_per_second, max_handshake_failures, seed,
        );
        if let Some(certificates) = options.certificates.into_certificates() {
            let certificates = options.callers.into_iter().fold(certificates, |all, name| all.callers(name));
            let certificates = options
                .caller_rights
                .into_iter()
                .fold(certificates, |all, RestrictedCaller { name, rights }| all.callers_with(name, rights));
            let certificates = options.admins.into_iter().fold(certificates, |all, name| all.admins(name));
            builder =
                builder.certificates(options.viewers.into_iter().fold(certificates, |all, name| all.viewers(name)));
        }
        for Restriction { key, value, names } in options.restrict_label {
            builder = builder.restrict_label(key, value, names);
        }
        for (is_set, set) in [
            (options.insecure, MasterBuilder::insecure as fn(MasterBuilder) -> MasterBuilder),
            (options.bind_names, MasterBuilder::bind_names),
            (options.expose_node_addresses, MasterBuilder::expose_node_addresses),
        ] {
            builder = if is_set { set(builder) } else { builder };
        }
        builder
    }
}

/// Runs a master until a signal, and shuts it down in order.
pub(crate) async fn run(options: MasterOptions) -> Result<(), Failure> {
    let targets: Targets = options
        .log
        .parse()
        .map_err(|error| Failure::new(Kind::Usage, format!("--log cannot be `{}`: {error}", options.log)))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_filter(targets);
    tracing_subscriber::registry().with(lines).init();

    let signals = Signals::new().map_err(|error| Failure::other(format!("signals cannot be waited for: {error}")))?;
    let (listen, file) = (options.listen.clone(), options.token_file.clone());
    let has_certificates = options.certificates.is_set();
    let page = options.page.clone().with_credentials_of_master(&options.certificates, file.as_deref());
    let master = options.into_builder().bind(listen).await?;
    let page = page.serve(&master).await?;
    print(&greeting(&master, file.as_deref(), has_certificates)?)?;
    if let Some(page) = &page {
        print(&page.greeting())?;
    }
    signals.next().await;
    // It shows the shutdown, too.
    master.shutdown().await;
    if let Some(page) = page {
        page.end().await;
    }
    Ok(())
}

/// Where the master listens, and what nodes and callers need.
fn greeting(master: &Master, file: Option<&std::path::Path>, has_certificates: bool) -> Result<String, Failure> {
    let addr = master.local_addr();
    let (node, caller) = match file {
        Some(file) => {
            let tokens = Token::list(file)?;
            let shown = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
            let shown = shown.display();
            let line = |access, option| match tokens.iter().any(|token| token.access() == access) {
                true => format!(
                    "the address {addr}, and DISTRIBUTION_TOKEN_FILE={shown} (on another machine DISTRIBUTION_TOKEN, with \
                     a token for {option} from that file)"
                ),
                false => {
                    format!(
                        "the address {addr}, and a token: distribution token issue --token-file {shown} --for {option}"
                    )
                }
            };
            (line(Access::Nodes, "nodes"), line(Access::Callers, "callers"))
        }
        None => {
            let line = match has_certificates {
                true => format!("the address {addr}, and a certificate of the authority"),
                false => format!("the address {addr}"),
            };
            (line.clone(), line)
        }
    };
    Ok(format!("listening on {addr}\na node needs: {node}\na caller needs: {caller}\n"))
}
