//! `switchboard user`: lists and changes accounts, on the log.

mod consent;
mod new_password;

use std::sync::Arc;

use clap::Subcommand;

use super::say::say;
use super::{CliError, Globals};
use crate::config::Config;
use crate::model::Name;
use crate::model::store::{self, Store, User, UserChange};
use crate::server::hash_password;

/// How many accounts are read at once.
const PAGE: usize = 500;

/// Open sessions end when their node next compares them with the log.
const SESSIONS_END: &str = "open sessions end within half a minute";

/// Lists and changes accounts
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists every account: id, state, name
    List,
    /// Keeps a user from logging in, and ends their sessions
    Disable(OfUser),
    /// Lets a user who was disabled log in again
    Enable(OfUser),
    /// Gives a user another password, and ends their sessions
    SetPassword(SetPassword),
    /// Deletes an account for good; its name stays taken, and what it said stays
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
struct OfUser {
    /// The user's name, whatever its case
    name: String,
}

#[derive(Debug, clap::Args)]
struct SetPassword {
    /// The user's name, whatever its case
    name: String,
    /// The environment variable that holds the new password; without it, it is asked for
    #[arg(long, value_name = "VAR")]
    password_env: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Delete {
    /// The user's name, whatever its case
    name: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs `switchboard user`.
pub async fn run(args: Args, globals: &Globals) -> Result<(), CliError> {
    let config = globals.load_config()?;
    // Asking about a log must not make one.
    if !store::exists(&config.store.url).await? {
        return Err(CliError::failed(format!(
            "there are no accounts: {} does not exist; start a node first, or correct store.url",
            store::shown(&config.store.url)
        )));
    }
    let log = config.store.open().await?;
    let done = act(args.command, &config, &log).await;
    log.close().await;
    match done? {
        nobody if nobody.is_empty() => Ok(()),
        text => say(text),
    }
}

async fn act(command: Command, config: &Config, log: &Arc<dyn Store>) -> Result<String, CliError> {
    match command {
        Command::List => list(&**log).await,
        Command::Disable(OfUser { name }) => switch(&**log, &name, true).await,
        Command::Enable(OfUser { name }) => switch(&**log, &name, false).await,
        Command::SetPassword(SetPassword { name, password_env }) => {
            let user = find(&**log, &name).await?;
            let password = new_password::get(&user.name, password_env.as_deref()).await?;
            let hash = hash_password(&config.auth, password).await.map_err(CliError::failed)?;
            change(&**log, &user, &UserChange::Password(hash)).await?;
            Ok(format!("{} has another password; {SESSIONS_END}", user.name))
        }
        Command::Delete(Delete { name, yes }) => {
            let user = find(&**log, &name).await?;
            if !yes && !consent::to_delete(&user.name).await? {
                return Ok(format!("{} is as before", user.name));
            }
            change(&**log, &user, &UserChange::Deleted).await?;
            Ok(format!("{} is deleted; {SESSIONS_END}", user.name))
        }
    }
}

async fn list(log: &dyn Store) -> Result<String, CliError> {
    let mut lines = Vec::new();
    let mut after: Option<Name> = None;
    loop {
        let page = log.user_list(after.as_ref(), PAGE).await?;
        for user in &page {
            let state = if user.disabled { "disabled" } else { "active" };
            lines.push(format!("{:>8}  {state:<8}  {}", user.id, user.name));
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.name.clone()),
            _ => return Ok(lines.join("\n")),
        }
    }
}

async fn switch(log: &dyn Store, name: &str, disabled: bool) -> Result<String, CliError> {
    let user = find(log, name).await?;
    if user.disabled == disabled {
        let state = if disabled { "disabled" } else { "active" };
        return Ok(format!("{} was {state} already", user.name));
    }
    change(log, &user, &UserChange::Disabled(disabled)).await?;
    Ok(if disabled {
        format!("{} may not log in any more; {SESSIONS_END}", user.name)
    } else {
        format!("{} may log in again, with the old password and new tokens", user.name)
    })
}

async fn find(log: &dyn Store, name: &str) -> Result<User, CliError> {
    let unknown = || CliError::failed(format!("there is no user {name}; `switchboard user list` shows who there is"));
    let parsed = Name::new(name).map_err(|error| CliError::Usage(format!("`{name}` is no name: {error}")))?;
    log.user_by_name(&parsed).await?.ok_or_else(unknown)
}

/// An account that is gone does not change any more.
async fn change(log: &dyn Store, user: &User, change: &UserChange) -> Result<(), CliError> {
    if log.user_change(user.id, change).await? {
        Ok(())
    } else {
        Err(CliError::failed(format!("{} is deleted, for good; register another name", user.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn log_with(names: impl IntoIterator<Item = String>) -> Arc<dyn Store> {
        let log = store::open("memory:").await.unwrap();
        for name in names {
            log.user_create(&Name::new(&name).unwrap(), "hash").await.unwrap();
        }
        log
    }

    #[tokio::test]
    async fn the_list_has_every_account_however_many_there_are() {
        let log = log_with((0..=2 * PAGE).map(|number| format!("user-{number:04}"))).await;
        let list = list(&*log).await.unwrap();
        let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().last()).collect();
        assert_eq!(names.len(), 2 * PAGE + 1);
        assert!(names.is_sorted());
    }

    #[tokio::test]
    async fn a_disabled_account_can_be_enabled_and_a_deleted_one_cannot() {
        let log = log_with(["Alice".to_owned()]).await;
        let disabled = async || find(&*log, "alice").await.unwrap().disabled;
        switch(&*log, "ALICE", true).await.unwrap();
        assert!(disabled().await);
        assert_eq!(switch(&*log, "alice", true).await.unwrap(), "Alice was disabled already");
        switch(&*log, "alice", false).await.unwrap();
        assert!(!disabled().await);
        change(&*log, &find(&*log, "alice").await.unwrap(), &UserChange::Deleted).await.unwrap();
        let error = switch(&*log, "alice", false).await.unwrap_err();
        assert_eq!(error.to_string(), "Alice is deleted, for good; register another name");
    }

    #[tokio::test]
    async fn who_does_not_exist_and_what_is_no_name_are_told_apart() {
        let log = log_with([]).await;
        assert_eq!(find(&*log, "bob").await.unwrap_err().exit_code(), 1);
        assert_eq!(find(&*log, "b o b").await.unwrap_err().exit_code(), 64);
    }
}
