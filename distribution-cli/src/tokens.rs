//! The commands of `distribution token`: issues, lists and revokes the tokens of a master's token file.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use distribution::{Access, CallerRights, Token};

use crate::{
    failure::{Failure, Kind},
    look::Look,
    output::{note, print, print_json},
    table::Table,
    units::{parse_size, parse_time},
};

/// The file with a master's tokens.
#[derive(Args, Debug)]
pub(crate) struct TokenFile {
    /// The master's token file.
    #[arg(long, value_name = "FILE", env = "DISTRIBUTION_TOKEN_FILE")]
    token_file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a new token and print it. The newest before it for the same use stays valid, older ones do not.
    Issue {
        #[command(flatten)]
        file: TokenFile,
        /// Who it is for.
        #[arg(long = "for", value_enum)]
        role: Role,
        /// Only for the node of this name.
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
        #[command(flatten)]
        rights: Rights,
    },
    /// List the tokens, without their secrets.
    List {
        #[command(flatten)]
        file: TokenFile,
    },
    /// Remove a token: all peers that came by it are disconnected within a heartbeat.
    Revoke {
        #[command(flatten)]
        file: TokenFile,
        /// The eight characters that `distribution token list` and the logs show.
        id: String,
    },
}

/// What callers with a token may do. Each is described at the method of `CallerRights` that has its name.
#[derive(Args, Debug)]
#[command(next_help_heading = "Rights of a token for callers (all, unless restricted)")]
pub(crate) struct Rights {
    /// Allow only calls of this service (`Arith`) or method (`Arith.sum`). May be given several times.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    service: Vec<String>,
    /// Deny an option of calls. May be given several times.
    #[arg(long, value_name = "OPTION", value_enum, value_delimiter = ',')]
    deny: Vec<Denied>,
    /// How many connections there may be at a time.
    #[arg(long, value_name = "CONNECTIONS")]
    max_connections: Option<usize>,
    /// How many calls may be under way at a time, over all connections.
    #[arg(long, value_name = "CALLS")]
    max_calls: Option<usize>,
    /// How many bytes of arguments the calls under way may have together.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_bytes: Option<usize>,
    /// The longest timeout. Calls without one are refused.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    max_timeout: Option<Duration>,
}

/// An option of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Denied {
    /// To choose the node, and to broadcast.
    On,
    /// To choose nodes by a label.
    Label,
    /// To call all nodes.
    Broadcast,
}

impl Rights {
    fn into_rights(self) -> CallerRights {
        let rights = self.service.into_iter().fold(CallerRights::new(), CallerRights::service);
        let rights = self.deny.into_iter().fold(rights, |rights, denied| match denied {
            Denied::On => rights.deny_on(),
            Denied::Label => rights.deny_label(),
            Denied::Broadcast => rights.deny_broadcast(),
        });
        let rights = self.max_connections.into_iter().fold(rights, CallerRights::max_connections);
        let rights = self.max_calls.into_iter().fold(rights, CallerRights::max_calls);
        let rights = self.max_bytes.into_iter().fold(rights, CallerRights::max_bytes);
        self.max_timeout.into_iter().fold(rights, CallerRights::max_timeout)
    }
}

/// A token's rights in a list.
fn shown_rights(token: &Token) -> String {
    match token.access() {
        Access::Callers if token.rights().is_unrestricted() => "all".to_owned(),
        Access::Callers => token.rights().to_string(),
        _ => "-".to_owned(),
    }
}

/// A token's rights as JSON.
fn json_rights(token: &Token) -> Option<String> {
    (token.access() == Access::Callers).then(|| token.rights().to_string())
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// Nodes.
    #[value(alias = "node")]
    Nodes,
    /// Programs that make calls.
    #[value(alias = "caller")]
    Callers,
    /// This program, and others that administer.
    #[value(alias = "admin")]
    Admins,
    /// Those who look at the cluster, by this program or the page in the browser, and change nothing.
    #[value(alias = "viewer")]
    Viewers,
}

pub(crate) fn run(command: TokenCommand, look: Look) -> Result<(), Failure> {
    match command {
        TokenCommand::Issue { file, role, node, rights } => {
            let rights = rights.into_rights();
            if !matches!(role, Role::Callers) && !rights.is_unrestricted() {
                let sentence = "--service, --deny and --max-.. are for tokens of callers: use them with --for callers";
                return Err(Failure::new(Kind::Usage, sentence));
            }
            let is_new = !file.token_file.exists();
            let token = match (role, node) {
                (Role::Nodes, Some(name)) => Token::issue_for_node(&file.token_file, &name)?,
                (Role::Nodes, None) => Token::issue(&file.token_file, Access::Nodes)?,
                (_, Some(_)) => {
                    return Err(Failure::new(Kind::Usage, "--node is for tokens of nodes: use it with --for nodes"));
                }
                (Role::Callers, None) => Token::issue_for_caller(&file.token_file, rights)?,
                (Role::Admins, None) => Token::issue(&file.token_file, Access::Admins)?,
                (Role::Viewers, None) => Token::issue(&file.token_file, Access::Viewers)?,
            };
            if is_new {
                // The name may be mistyped, and then no master knows the token.
                note(&format!(
                    "made a new token file, {}; only a master that is started with this file accepts its tokens",
                    file.token_file.display()
                ));
            }
            match file.json {
                true => print_json(
                    &serde_json::json!({ "token": token.expose(), "id": token.id(), "for": token.access().to_string(), "node": token.name(), "rights": json_rights(&token) }),
                ),
                false => print(&format!("{}\n", token.expose())),
            }
        }
        TokenCommand::List { file } => {
            let tokens = Token::list(&file.token_file)?;
            if file.json {
                let rows = tokens.iter().map(|token| {
                    serde_json::json!({ "id": token.id(), "for": token.access().to_string(), "node": token.name(), "rights": json_rights(token) })
                });
                return print_json(&rows.collect::<Vec<_>>());
            }
            let mut table = Table::new(&["ID", "FOR", "NODE", "RIGHTS"]);
            for token in &tokens {
                let node = token.name().unwrap_or("-").to_owned();
                table.row([token.id(), format!("{}s", token.access()), node, shown_rights(token)]);
            }
            print(&table.text(look))
        }
        TokenCommand::Revoke { file, id } => {
            if !Token::list(&file.token_file)?.iter().any(|token| token.id() == id) {
                let sentence = format!(
                    "no token in {} has the id `{id}`; `distribution token list` shows those that are there",
                    file.token_file.display()
                );
                return Err(Failure::new(Kind::UnknownId, sentence));
            }
            let token = Token::revoke(&file.token_file, &id)?;
            match file.json {
                true => print_json(&serde_json::json!({ "action": "revoke", "id": token.id() })),
                false => print(&format!("revoked {} (for {}s)\n", token.id(), token.access())),
            }
        }
    }
}
