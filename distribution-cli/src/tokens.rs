//! The commands of `distribution token`: issues, lists and revokes the tokens of a master's token file.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use distribution::{Access, Token};

use crate::{
    failure::{Failure, Kind},
    look::Look,
    output::{print, print_json},
    table::Table,
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
}

pub(crate) fn run(command: TokenCommand, look: Look) -> Result<(), Failure> {
    match command {
        TokenCommand::Issue { file, role, node } => {
            let token = match (role, node) {
                (Role::Nodes, Some(name)) => Token::issue_for_node(&file.token_file, &name)?,
                (Role::Nodes, None) => Token::issue(&file.token_file, Access::Nodes)?,
                (_, Some(_)) => {
                    return Err(Failure::new(Kind::Usage, "--node is for tokens of nodes: use it with --for nodes"));
                }
                (Role::Callers, None) => Token::issue(&file.token_file, Access::Callers)?,
                (Role::Admins, None) => Token::issue(&file.token_file, Access::Admins)?,
            };
            match file.json {
                true => print_json(
                    &serde_json::json!({ "token": token.expose(), "id": token.id(), "for": token.access().to_string(), "node": token.name() }),
                ),
                false => print(&format!("{}\n", token.expose())),
            }
        }
        TokenCommand::List { file } => {
            let tokens = Token::list(&file.token_file)?;
            if file.json {
                let rows = tokens.iter().map(|token| {
                    serde_json::json!({ "id": token.id(), "for": token.access().to_string(), "node": token.name() })
                });
                return print_json(&rows.collect::<Vec<_>>());
            }
            let mut table = Table::new(&["ID", "FOR", "NODE"]);
            for token in &tokens {
                table.row([token.id(), format!("{}s", token.access()), token.name().unwrap_or("-").to_owned()]);
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
