use crate::protocol::Password;

/// What proves who the user is, as it changes while the client lives.
#[derive(Debug)]
pub(crate) struct Secrets {
    password: Password,
    /// From the last `welcome`.
    token: Option<Password>,
    /// A change of the password on its way, with the request's number. Once the connection broke nobody knows whether
    /// it was made, so both passwords are tried then.
    change: Option<(u64, Password)>,
}

impl Secrets {
    pub(crate) fn new(password: Password) -> Self {
        Self { password, token: None, change: None }
    }

    /// Notes a request to change the password.
    pub(crate) fn asked(&mut self, number: u64, new: Password) {
        self.change = Some((number, new));
    }

    /// Notes the answer to a request. A change makes every earlier token worthless.
    pub(crate) fn answered(&mut self, number: u64, done: bool) {
        if let Some((_, new)) = self.change.take_if(|(asked, _)| *asked == number)
            && done
        {
            self.password = new;
            self.token = None;
        }
    }

    /// Notes a login, with the password that proved right if it was one.
    pub(crate) fn welcome(&mut self, token: Password, password: Option<Password>) {
        self.token = Some(token);
        if let Some(password) = password {
            self.password = password;
        }
    }

    pub(crate) fn token(&self) -> Option<&Password> {
        self.token.as_ref()
    }

    /// Returns the passwords to try, the likelier first.
    pub(crate) fn passwords(&self) -> Vec<Password> {
        let other = self.change.as_ref().map(|(_, new)| new).filter(|&new| *new != self.password);
        [&self.password].into_iter().chain(other).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text)
    }

    #[test]
    fn a_change_replaces_the_password_and_ends_the_token() {
        let mut secrets = Secrets::new(password("old"));
        secrets.welcome(password("token"), None);
        secrets.asked(3, password("new"));
        secrets.answered(2, true);
        assert_eq!(secrets.token(), Some(&password("token")));
        secrets.answered(3, true);
        assert_eq!((secrets.token(), secrets.passwords()), (None, vec![password("new")]));
    }

    #[test]
    fn a_refused_change_changes_nothing_and_an_unanswered_one_is_tried_second() {
        let mut secrets = Secrets::new(password("old"));
        secrets.asked(3, password("refused"));
        secrets.answered(3, false);
        assert_eq!(secrets.passwords(), [password("old")]);
        secrets.asked(4, password("new"));
        assert_eq!(secrets.passwords(), [password("old"), password("new")]);
        secrets.welcome(password("token"), Some(password("new")));
        assert_eq!(secrets.passwords(), [password("new")]);
    }
}
