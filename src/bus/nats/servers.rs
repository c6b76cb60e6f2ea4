//! Where NATS is, as the config says it.

use std::slice::Iter;

use async_nats::{ConnectOptions, ServerAddr};

use crate::bus::config::BrokerUrl;
use crate::bus::{BusError, BusErrorKind};

const EXPECTED: &str = "write nats://[user:password@]host[:port], with ,host[:port] for each further server";

/// The servers of one NATS, in the order in which they are tried, and who we are to them.
pub(super) struct Servers {
    /// Without user and password, so that the client library cannot show them.
    addresses: Vec<ServerAddr>,
    login: Option<Login>,
}

#[derive(Clone, PartialEq, Eq)]
struct Login {
    user: String,
    password: String,
}

impl Servers {
    /// Takes `nats://[user:password@]host[:port]`, with further servers behind commas.
    pub(super) fn parse(url: &BrokerUrl) -> Result<Self, BusError> {
        let broken = |reason: &str| BusError::new(BusErrorKind::Config, format!("bus.nats.url = \"{url}\": {reason}"));
        if url.expose().starts_with("tls://") {
            return Err(broken("this version does not speak TLS to NATS; use nats://"));
        }
        let hosts = url.expose().strip_prefix("nats://").ok_or_else(|| broken(EXPECTED))?;
        let mut servers = Self { addresses: Vec::new(), login: None };
        for host in hosts.split(',') {
            let host = host.strip_prefix("nats://").unwrap_or(host);
            servers.add(host).ok_or_else(|| broken(EXPECTED))?;
        }
        Ok(servers)
    }

    /// Adds a server. Only the first may have a login, which is for all of them.
    fn add(&mut self, host: &str) -> Option<()> {
        let mut url = format!("nats://{host}").parse::<ServerAddr>().ok()?.into_inner();
        let bare = url.query().is_none() && url.fragment().is_none() && ["", "/"].contains(&url.path());
        if !bare || url.host_str().is_none_or(str::is_empty) {
            return None;
        }
        let (user, password) = (decoded(url.username())?, decoded(url.password().unwrap_or_default())?);
        if !user.is_empty() {
            let login = Some(Login { user, password });
            if self.addresses.is_empty() {
                self.login = login;
            } else if self.login != login {
                return None;
            }
            url.set_username("").ok()?;
            url.set_password(None).ok()?;
        } else if !password.is_empty() {
            return None;
        }
        self.addresses.push(ServerAddr::from_url(url).ok()?);
        Some(())
    }

    pub(super) fn iter(&self) -> Iter<'_, ServerAddr> {
        self.addresses.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Returns options that say who we are.
    pub(super) fn options(&self) -> ConnectOptions {
        match &self.login {
            Some(Login { user, password }) => ConnectOptions::with_user_and_password(user.clone(), password.clone()),
            None => ConnectOptions::new(),
        }
    }
}

/// Takes out the `%40`s.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => (hex(bytes.next()?)? << 4) | hex(bytes.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parsed = (Vec<String>, Option<(String, String)>);

    fn parse(url: &str) -> Result<Parsed, String> {
        let servers = Servers::parse(&BrokerUrl::new(url)).map_err(|error| {
            assert_eq!(error.kind(), BusErrorKind::Config);
            format!("{error:?}")
        })?;
        let places = servers.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect();
        assert!(servers.iter().all(|server| !format!("{server:?}").contains("secret")));
        Ok((places, servers.login.map(|login| (login.user, login.password))))
    }

    #[test]
    fn several_servers_and_a_login_are_taken() {
        let places = |places: &[&str]| places.iter().map(|place| (*place).to_owned()).collect::<Vec<_>>();
        let login = Some(("u@v".to_owned(), "secret,/ä".to_owned()));
        assert_eq!(parse("nats://n"), Ok((places(&["n:4222"]), None)));
        assert_eq!(parse("nats://a:1,b,[::1]:2"), Ok((places(&["a:1", "b:4222", "::1:2"]), None)));
        for others in ["b:2", "nats://b:2", "u%40v:secret%2C%2F%C3%A4@b:2"] {
            let url = format!("nats://u%40v:secret%2C%2F%C3%A4@a:1,{others}");
            assert_eq!(parse(&url), Ok((places(&["a:1", "b:2"]), login.clone())));
        }
    }

    #[test]
    fn a_broken_url_is_told_so_and_its_password_is_not_shown() {
        for url in [
            "nats://u:secret@host:port",
            "nats://u:secret@",
            "nats://:secret@host",
            "nats://u:secret@host/path",
            "nats://u:secret@host?tls=1",
            "nats://u:secret%4@host",
            "nats://u:secret@a,,b",
            "nats://u:secret@a,other:secret@b",
            "http://u:secret@host",
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains("bus.nats.url") && error.contains(EXPECTED), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(parse("tls://u:secret@host").unwrap_err().contains("does not speak TLS"));
    }
}
