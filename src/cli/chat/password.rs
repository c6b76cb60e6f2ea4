use std::env;
use std::io;

use crate::cli::question;
use crate::protocol::Password;

/// Where a password is looked for unless told otherwise.
const VARIABLE: &str = "SWITCHBOARD_PASSWORD";

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The named variable is not set.
    #[error("the environment variable {0} is not set; set it to the password")]
    NotSet(String),
    /// There is nobody to ask.
    #[error(
        "there is no terminal to ask for the password; set {VARIABLE}, or name another variable with --password-env"
    )]
    NoTerminal,
    /// The terminal broke.
    #[error("cannot read from the terminal")]
    Terminal(#[source] io::Error),
}

/// Finds the password: in the named variable, else in `SWITCHBOARD_PASSWORD`, else by asking.
pub(super) async fn find(variable: Option<&str>, name: &str, interactive: bool) -> Result<Password, PasswordError> {
    if let Some(variable) = variable {
        let found = env::var(variable).map_err(|_| PasswordError::NotSet(variable.to_owned()))?;
        return Ok(Password::new(found));
    }
    if let Ok(found) = env::var(VARIABLE) {
        return Ok(Password::new(found));
    }
    if !interactive {
        return Err(PasswordError::NoTerminal);
    }
    let prompt = format!("Password of {name}: ");
    let answer = question::ask(move || rpassword::prompt_password(prompt)).await;
    answer.map(Password::new).map_err(PasswordError::Terminal)
}

/// Asks whether a name should be registered.
pub(super) async fn agrees(name: &str) -> Result<bool, PasswordError> {
    let question = format!("No user {name} has this password. Register {name} with it? [y/N] ");
    question::agrees(question).await.map_err(PasswordError::Terminal)
}

/// Asks for the old password and twice for the new one; `None`: the two differ.
pub(super) fn change() -> io::Result<Option<(Password, Password)>> {
    let old = rpassword::prompt_password("Old password: ")?;
    let new = rpassword::prompt_password("New password: ")?;
    let again = rpassword::prompt_password("New password again: ")?;
    Ok((new == again).then(|| (Password::new(old), Password::new(new))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_variable_that_is_not_set_is_named() {
        let error = find(Some("SWITCHBOARD_TEST_NOT_SET"), "alice", true).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the environment variable SWITCHBOARD_TEST_NOT_SET is not set; set it to the password"
        );
    }
}
