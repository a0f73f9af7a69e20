//! Where a request comes from, and the token it brings.

use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpRequest};
use ipnet::IpNet;

use crate::domain::error::Code;
use crate::http::problem::{Problem, Result};
use crate::http::request::RequestInfo;

/// The proxies whose `X-Forwarded-For` is believed. None by default.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client of a request that came from `peer` with these headers: the last address, read from right to left, that is
    /// no trusted proxy. Everything to the left of it is the client's own invention. At what is no address the search ends
    /// with the hop before it.
    pub(in crate::http) fn client_of(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).to_canonical();
        if !self.contain(client) {
            return client;
        }
        let lines: Vec<_> = headers.get_all("x-forwarded-for").collect();
        let hops = lines.iter().rev().flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        for hop in hops {
            if !self.contain(client) {
                break;
            }
            let Some(address) = parse_hop(hop.trim()) else { break };
            client = address;
        }
        client
    }
}

/// An address as proxies write it: bare, in brackets, with a port. IPv4 in IPv6's clothes is IPv4.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse::<IpAddr>().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

/// Where the request comes from: the connection's other end, or the client that trusted proxies name. `0.0.0.0` where there
/// is no connection, as in a unit test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIp(pub IpAddr);

impl FromRequest for ClientIp {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self(RequestInfo::of(request).client_ip())))
    }
}

/// The access token of the request, from its one `Authorization` header (RFC 6750 §2.1) and from nowhere else.
///
/// # Errors
/// 401 `credentials_missing` without the header, or with another scheme; `invalid_token` for two headers or what can't be a
/// token.
pub fn bearer_token(headers: &HeaderMap) -> Result<&str> {
    let missing = || Problem::new(Code::CredentialsMissing, "this needs an access token: Authorization: Bearer …");
    let invalid = || Problem::new(Code::InvalidToken, "the Authorization header must hold one bearer token");
    let mut lines = headers.get_all(header::AUTHORIZATION);
    let line = lines.next().ok_or_else(missing)?;
    if lines.next().is_some() {
        return Err(invalid());
    }
    // As nearly everybody writes it.
    if let Some(token) = line.as_bytes().strip_prefix(b"Bearer ").filter(|token| is_unpadded(token))
        && let Ok(token) = str::from_utf8(token)
    {
        return Ok(token);
    }
    let line = line.to_str().map_err(|_| invalid())?.trim();
    let (scheme, token) = line.split_once(' ').unwrap_or((line, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(missing());
    }
    let token = token.trim_start_matches(' ');
    if is_b64token(token) { Ok(token) } else { Err(invalid()) }
}

/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
fn is_b64token(token: &str) -> bool {
    is_unpadded(token.trim_end_matches('=').as_bytes())
}

/// As [`is_b64token`], without the padding. Looks at all bytes and never branches, so that it looks at many at a time: a token has hundreds.
fn is_unpadded(token: &[u8]) -> bool {
    // `-`, `.`, `/` and the digits follow one another.
    let fits = |b: u8| (b | 0x20).wrapping_sub(b'a') < 26 || b.wrapping_sub(b'-') < 13 || b == b'_' || b == b'~' || b == b'+';
    !token.is_empty() && token.iter().fold(true, |all, b| all & fits(*b))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let proxies = TrustedProxies::new(trusted.iter().map(|network| network.parse().unwrap()).collect());
        let request = forwarded.iter().fold(TestRequest::get(), |request, line| request.append_header(("x-forwarded-for", *line)));
        proxies.client_of(Some(peer.parse().unwrap()), request.to_http_request().headers()).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_as_far_as_they_saw() {
        let proxies = &["10.0.0.0/8", "fd00::/8"][..];
        for (trusted, peer, forwarded, expected) in [
            (&[][..], "10.0.0.1", &["1.2.3.4"][..], "10.0.0.1"),
            (proxies, "9.9.9.9", &["1.2.3.4"], "9.9.9.9"),
            (proxies, "10.0.0.1", &[], "10.0.0.1"),
            (proxies, "10.0.0.1", &["1.2.3.4"], "1.2.3.4"),
            (proxies, "::ffff:10.0.0.1", &["::ffff:1.2.3.4"], "1.2.3.4"),
            (proxies, "10.0.0.1", &["6.6.6.6, 1.2.3.4, 10.0.0.2"], "1.2.3.4"),
            (proxies, "10.0.0.1", &["6.6.6.6", "1.2.3.4", "10.0.0.2"], "1.2.3.4"),
            (proxies, "10.0.0.1", &["6.6.6.6, garbage, 10.0.0.2"], "10.0.0.2"),
            (proxies, "10.0.0.1", &["6.6.6.6, unknown"], "10.0.0.1"),
            (proxies, "10.0.0.1", &["1.2.3.4,"], "10.0.0.1"),
            (proxies, "10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (proxies, "fd00::1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            (proxies, "fd00::1", &["[2001:db8::1]"], "2001:db8::1"),
            (proxies, "fd00::1", &["1.2.3.4:80"], "1.2.3.4"),
        ] {
            assert_eq!(client(trusted, peer, forwarded), expected, "{trusted:?} {peer} {forwarded:?}");
        }
    }

    fn token(lines: &[&str]) -> Result<String> {
        let request = lines.iter().fold(TestRequest::get(), |request, line| request.append_header((header::AUTHORIZATION, *line)));
        bearer_token(request.to_http_request().headers()).map(str::to_owned)
    }

    #[test]
    fn a_token_has_these_characters_and_no_others() {
        for byte in 0..=u8::MAX {
            let expected = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
            assert_eq!(is_unpadded(&[b'a', byte]), expected, "{byte:#x}");
        }
    }

    #[test]
    fn a_token_comes_in_one_header_of_the_bearer_scheme() {
        assert_eq!(token(&["Bearer a.b-c_d"]).unwrap(), "a.b-c_d");
        assert_eq!(token(&["bEARER  a=="]).unwrap(), "a==");
        for lines in [&[][..], &["Basic YTpi"], &["a.b.c"], &[""]] {
            assert_eq!(token(lines).unwrap_err().error().code(), Code::CredentialsMissing, "{lines:?}");
        }
        for lines in [
            &["Bearer"][..],
            &["Bearer "],
            &["Bearer a b"],
            &["Bearer a,Bearer b"],
            &["Bearer a", "Bearer a"],
            &["Bearer =a"],
            &["Bearer ä"],
        ] {
            assert_eq!(token(lines).unwrap_err().error().code(), Code::InvalidToken, "{lines:?}");
        }
    }
}
