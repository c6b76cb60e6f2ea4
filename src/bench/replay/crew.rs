use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::watch;

use super::watcher::Watch;
use super::{Plan, Progress, ReplayError, Script, Stage};
use crate::client::{ChatClient, ClientErrorKind, Options};
use crate::model::ConversationId;
use crate::protocol::ErrorCode;

/// The users of a run, all of them in one group.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) clients: Vec<ChatClient>,
    pub(super) group: ConversationId,
}

impl Crew {
    /// Logs everybody in, registering whom the cluster does not know, and brings them into a new group.
    pub(super) async fn assemble(
        script: &Script,
        plan: &Plan,
        watch: &Arc<Watch>,
        progress: &watch::Sender<Progress>,
    ) -> Result<Self, ReplayError> {
        let of = script.users() as u64;
        let at_once = plan.logins_at_once.max(1);
        let report = |stage, done| progress.send_replace(Progress { stage, done, of, deliveries: 0 });
        report(Stage::LoggingIn, 0);
        let logins = (0..script.users()).map(|user| log_in(user, script, plan, watch));
        let mut logins = stream::iter(logins).buffered(at_once);
        let mut clients = Vec::with_capacity(script.users());
        while let Some(client) = logins.try_next().await? {
            clients.push(client);
            report(Stage::LoggingIn, clients.len() as u64);
        }
        let refused = |user: usize| {
            let name = script.names[user].to_string();
            move |source| ReplayError::Group { name, source }
        };
        let group = clients[0].group_create(&plan.group, None).await.map_err(refused(0))?.conversation;
        let joins = clients
            .iter()
            .enumerate()
            .skip(1)
            .map(|(user, client)| async move { client.group_join(group).await.map_err(refused(user)) });
        let mut joins = stream::iter(joins).buffer_unordered(at_once);
        let mut done = 1;
        while joins.try_next().await?.is_some() {
            done += 1;
            report(Stage::Joining, done);
        }
        drop(joins);
        watch.entered(group);
        Ok(Self { clients, group })
    }
}

async fn log_in(user: usize, script: &Script, plan: &Plan, watch: &Arc<Watch>) -> Result<ChatClient, ReplayError> {
    let name = script.names[user].to_string();
    let mut servers = plan.servers.clone();
    let first = user % servers.len().max(1);
    servers.rotate_left(first);
    let mut options = Options::new(servers, &name, plan.password.clone());
    options.device = Some("replay".to_owned());
    options.register = true;
    ChatClient::observe(options, watch.ear(user)).await.map_err(|source| match source.kind() {
        ClientErrorKind::Refused(ErrorCode::BadCredentials) => ReplayError::NameTaken { name },
        _ => ReplayError::Login { name, source },
    })
}
