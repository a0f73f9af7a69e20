//! From text to a value, or to a sentence that says what is allowed.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ipnet::IpNet;

use super::values::Secret;

pub(super) fn number<T: TryFrom<u32>>(min: u32, max: u32) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let digits_only = text.bytes().all(|b| b.is_ascii_digit());
        let value = text.parse().ok().filter(|value| digits_only && (min..=max).contains(value));
        value.and_then(|value| T::try_from(value).ok()).ok_or_else(|| format!("must be a whole number from {min} to {max}"))
    }
}

pub(super) fn seconds(max: u32) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| number::<u32>(1, max)(text).map(|seconds| Duration::from_secs(u64::from(seconds)))
}

pub(super) fn one_of<T: Copy>(values: &[(&str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let found = values.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        found.ok_or_else(|| format!("must be {}", values.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(" or ")))
    }
}

pub(super) fn list<T>(parse: impl Fn(&str) -> Result<T, String>) -> impl Fn(&str) -> Result<Vec<T>, String> {
    move |text| text.split(',').map(|item| parse(item.trim())).collect()
}

pub(super) fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
    network
        .map(|network| network.trunc())
        .ok_or_else(|| "must be addresses or networks such as `10.0.0.0/8,::1`, separated by commas".to_owned())
}

/// An origin exactly as a browser sends it (RFC 6454 §6.2), because it is compared letter by letter.
pub(super) fn parse_origin(text: &str) -> Result<String, String> {
    let wrong = "must be origins such as `https://desk.example.org` or `http://localhost:5173`, separated by commas: in lower case, \
                 without a path, a trailing slash, a default port or `*`";
    let (scheme, authority) = text.split_once("://").ok_or(wrong)?;
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return Err(wrong.to_owned()),
    };
    let well_formed = is_authority(authority) && !authority.ends_with(default_port) && !authority.bytes().any(|b| b.is_ascii_uppercase());
    if well_formed { Ok(text.to_owned()) } else { Err(wrong.to_owned()) }
}

/// A base URL, given back without its trailing slash.
pub(super) fn parse_public_url(text: &str) -> Result<String, String> {
    let wrong = "must be a URL such as `https://actas.example.org`, without credentials, parameters and fragment";
    let url = text.trim_end_matches('/');
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).ok_or(wrong)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.' | b'~' | b'%');
    if is_authority(authority) && path.bytes().all(plain) { Ok(url.to_owned()) } else { Err(wrong.to_owned()) }
}

/// `host[:port]` with a name, an IPv4 address or an IPv6 address in brackets.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_is_fine = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port));
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_fine = bracketed.map_or_else(|| is_host_name(host), |address| address.parse::<std::net::Ipv6Addr>().is_ok());
    port_is_fine && host_is_fine
}

pub(super) fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    host.len() <= 253 && host.split('.').all(is_label)
}

/// A `StringOrURI` (RFC 7519 §2) that nobody has to escape.
pub(super) fn parse_claim(text: &str) -> Result<String, String> {
    let plain = text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
    if plain {
        Ok(text.to_owned())
    } else {
        Err("must have at most 255 visible ASCII characters without quotes and backslashes".to_owned())
    }
}

/// An AES-256 key. A passphrase is refused: stretching it here would pretend a strength that it doesn't have.
pub(super) fn parse_key(text: &str) -> Result<Secret<[u8; 32]>, String> {
    let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).unwrap_or_default();
    <[u8; 32]>::try_from(bytes.as_slice())
        .map(Secret::new)
        .map_err(|_| "must be 32 random bytes in base64, such as `openssl rand -base64 32` prints".to_owned())
}
