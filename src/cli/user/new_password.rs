use std::env;
use std::io::{self, IsTerminal};

use crate::cli::CliError;
use crate::model::Name;
use crate::protocol::Password;

/// Gets a new password: from the named variable, else by asking twice.
pub(super) async fn get(name: &Name, variable: Option<&str>) -> Result<Password, CliError> {
    if let Some(variable) = variable {
        return from_environment(variable);
    }
    if !io::stdin().is_terminal() {
        let text = "there is no terminal to ask for the password; name a variable that holds it with --password-env";
        return Err(CliError::Usage(text.to_owned()));
    }
    let first = ask(format!("New password of {name}: ")).await?;
    if first != ask("Once more: ".to_owned()).await? {
        return Err(CliError::failed("the two passwords differ; nothing was changed"));
    }
    Ok(Password::new(first))
}

fn from_environment(variable: &str) -> Result<Password, CliError> {
    let unset = |_| CliError::Usage(format!("the environment variable {variable} is not set; set it to the password"));
    env::var(variable).map(Password::new).map_err(unset)
}

async fn ask(prompt: String) -> Result<String, CliError> {
    let asked = tokio::task::spawn_blocking(move || rpassword::prompt_password(prompt)).await;
    let answer = asked.map_err(io::Error::other).and_then(|answer| answer);
    answer.map_err(|error| CliError::failed_by("cannot read from the terminal", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_not_set_is_a_usage_error_that_names_it() {
        let error = from_environment("SWITCHBOARD_TEST_NOT_SET").unwrap_err();
        assert_eq!(error.exit_code(), 64);
        assert!(error.to_string().contains("SWITCHBOARD_TEST_NOT_SET"), "{error}");
    }
}
