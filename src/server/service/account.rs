use super::error::ServiceError;
use crate::model::store::{StoreErrorKind, User, UserChange};
use crate::model::{Name, UserId};
use crate::protocol::{CloseReason, ErrorCode, Login, Password, RequestId, ServerFrame};
use crate::server::core::Core;
use crate::server::flow::{Audience, LocalSession, Notice, Told, notify};

/// The lengths of a password, in bytes.
pub(super) const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 8..=1024;

/// Makes an account.
pub(crate) async fn register(core: &Core, name: &str, password: Password) -> Result<UserId, ServiceError> {
    let name = Name::new(name).map_err(|error| ServiceError::new(ErrorCode::BadFrame, format!("`name`: {error}")))?;
    let bytes = password.reveal().len();
    if !PASSWORD_BYTES.contains(&bytes) {
        let message = format!("`password`: a password is 8 to 1024 bytes long, this one is {bytes}");
        return Err(ServiceError::new(ErrorCode::BadFrame, message));
    }
    let taken = || ServiceError::new(ErrorCode::NameTaken, format!("the name {name} is registered"));
    // Asking first spares the hash.
    if core.store.user_by_name(&name).await?.is_some() {
        return Err(taken());
    }
    let hash = core.passwords.hash(password).await?;
    match core.store.user_create(&name, &hash).await {
        Err(error) if error.kind() == StoreErrorKind::Conflict => Err(taken()),
        result => Ok(result?),
    }
}

/// Changes a user's password. Their other sessions end, and no token made before is good any more.
pub(crate) async fn change_password(
    core: &Core,
    session: &LocalSession,
    id: Option<RequestId>,
    old: Password,
    new: Password,
) -> Result<ServerFrame, ServiceError> {
    let bytes = new.reveal().len();
    if !PASSWORD_BYTES.contains(&bytes) {
        let message = format!("`new`: a password is 8 to 1024 bytes long, this one is {bytes}");
        return Err(ServiceError::new(ErrorCode::BadFrame, message));
    }
    let wrong = || ServiceError::new(ErrorCode::BadCredentials, "`old` is not the password");
    let user = core.reader.user(session.user).await?.ok_or_else(wrong)?;
    if !core.passwords.verify(old, Some(user.password_hash)).await? {
        return Err(wrong());
    }
    let hash = core.passwords.hash(new).await?;
    revoke(core, session, &UserChange::Password(hash)).await?;
    Ok(ServerFrame::Ok { id })
}

/// Ends a user's other sessions and every token.
pub(crate) async fn log_out_elsewhere(core: &Core, session: &LocalSession) -> Result<(), ServiceError> {
    revoke(core, session, &UserChange::Tokens).await
}

/// Changes an account, and closes every session of it but the one that asks for it. A node that is not told finds out with its next audit.
async fn revoke(core: &Core, session: &LocalSession, change: &UserChange) -> Result<(), ServiceError> {
    core.store.user_change(session.user, change).await?;
    if let Some(user) = core.reader.user(session.user).await? {
        session.renew(user.token_version);
    }
    let notice = Notice { to: Audience::User(session.user), told: Told::Closed(CloseReason::Revoked) };
    notify(core, vec![notice], Some(session.number));
    Ok(())
}

/// Finds out who logs in.
pub(super) async fn authenticate(core: &Core, login: Login) -> Result<User, ServiceError> {
    let user = match (login.name, login.password, login.token) {
        (Some(name), Some(password), None) => {
            let user = match Name::new(&name) {
                Ok(name) => core.store.user_by_name(&name).await?,
                Err(_) => None,
            };
            let hash = user.as_ref().map(|user| user.password_hash.clone());
            if password.reveal().len() <= *PASSWORD_BYTES.end() && core.passwords.verify(password, hash).await? {
                user
            } else {
                None
            }
        }
        (None, None, Some(token)) => match core.tokens.check(token.reveal()) {
            Some((user, version)) => core.reader.user(user).await?.filter(|user| user.token_version == version),
            None => None,
        },
        _ => None,
    };
    user.filter(|user| !user.disabled)
        .ok_or_else(|| ServiceError::new(ErrorCode::BadCredentials, "name and password, or the token, do not fit"))
}
