//! Load by wrk, over connections that are kept: it costs little beside the server, and counts by itself.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Command;

use crate::program::told;
use crate::report::Found;

/// One request, as wrk sends it again and again.
pub struct Call {
    pub method: &'static str,
    pub path: String,
    pub token: String,
    pub body: Option<String>,
}

impl Call {
    pub fn get(path: &str, token: &str) -> Self {
        Self { method: "GET", path: path.to_owned(), token: token.to_owned(), body: None }
    }

    pub fn post(path: &str, token: &str, body: String) -> Self {
        Self { method: "POST", path: path.to_owned(), token: token.to_owned(), body: Some(body) }
    }

    /// The expression that makes it.
    fn in_lua(&self) -> String {
        let body = self.body.as_ref().map_or("nil".to_owned(), |body| format!("{body:?}"));
        let content = if self.body.is_some() { "[\"Content-Type\"] = \"application/json\", " } else { "" };
        let headers = format!("{{ {content}Authorization = \"Bearer {}\" }}", self.token);
        format!("wrk.format({:?}, {:?}, {headers}, {body})", self.method, self.path)
    }
}

/// The beginning of every script: the calls, made once.
fn prepare(calls: &[Call], more: &str) -> String {
    let mut script = "local calls = {}\nlocal next = 0\ninit = function()\n".to_owned();
    for call in calls {
        writeln!(script, "calls[#calls + 1] = {}", call.in_lua()).unwrap();
    }
    script + more + "end\n"
}

/// What all scripts print at the end: requests, microseconds, two percentiles of their times, failures.
const DONE: &str = "
local function found(summary, latency, ...)
    local e = summary.errors
    local failed = e.connect + e.read + e.write + e.status + e.timeout
    local numbers = { summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), failed, ... }
    for i, number in ipairs(numbers) do numbers[i] = string.format('%.0f', number) end
    io.write('FOUND ' .. table.concat(numbers, ' ') .. '\\n')
end
";

/// Runs a script and reads what it found.
fn run(url: &str, clients: usize, script: &str, seconds: u64) -> Vec<f64> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(script.as_bytes()).unwrap();
    let arguments = ["-t1", &format!("-c{clients}"), &format!("-d{seconds}s"), "--timeout", "60s", "-s"];
    let told = told(Command::new("wrk").args(arguments).arg(file.path()).arg(url));
    let line = told.lines().find_map(|line| line.strip_prefix("FOUND ")).unwrap_or_else(|| panic!("wrk: {told}"));
    let numbers: Vec<f64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    assert!(numbers[4] < 0.5, "{} of {} requests failed", numbers[4], numbers[0]);
    numbers
}

fn read(numbers: &[f64]) -> Found {
    Found { rate: numbers[0] / (numbers[1] / 1e6), p50_ms: numbers[2] / 1e3, p99_ms: numbers[3] / 1e3 }
}

/// Loads `url` with `calls`, one after the other and then again.
pub fn load(url: &str, clients: usize, calls: &[Call], seconds: u64) -> Found {
    let script = prepare(calls, "")
        + DONE
        + "request = function() next = next % #calls + 1; return calls[next] end\n\
           done = function(summary, latency) found(summary, latency) end\n";
    run(url, clients, &script, 1);
    read(&run(url, clients, &script, seconds))
}

/// Starts an impersonation with each of `starts` and leaves it again, as often as it goes. The rate is that of the whole round trips, the times are those of
/// single requests. Every logout has to give back one of `originals`.
pub fn round_trips(url: &str, clients: usize, starts: &[Call], originals: &[String], seconds: u64) -> RoundTrips {
    // A token stands in for those that only the starts will tell.
    let leave = Call::post("/v1/auth/logout", "@", "{}".to_owned()).in_lua();
    let mut more = format!("local leave = {leave}\nlocal at = string.find(leave, '@', 1, true)\n");
    more += "before, after = string.sub(leave, 1, at - 1), string.sub(leave, at + 1)\n";
    for original in originals {
        writeln!(more, "originals[{original:?}] = true").unwrap();
    }
    let script = "local before, after\nlocal originals = {}\n".to_owned()
        + &prepare(starts, &more)
        + DONE
        + "
local threads, acting, first, last = {}, {}, 1, 0
restored, wrong = 0, 0
setup = function(thread) threads[#threads + 1] = thread end
request = function()
    if first <= last then
        local token = acting[first]
        acting[first] = nil
        first = first + 1
        return before .. token .. after
    end
    next = next % #calls + 1
    return calls[next]
end
response = function(status, headers, body)
    local token = string.match(body, '\"access_token\":\"([^\"]+)\"')
    if status == 201 and token then
        last = last + 1
        acting[last] = token
    elseif status == 200 and token and originals[token] then
        restored = restored + 1
    else
        wrong = wrong + 1
    end
end
done = function(summary, latency) found(summary, latency, threads[1]:get('restored'), threads[1]:get('wrong')) end
";
    let numbers = run(url, clients, &script, seconds);
    assert!(numbers[6] < 0.5, "{} answers were neither an impersonation nor an original token", numbers[6]);
    RoundTrips { done: numbers[5] as u64, found: Found { rate: numbers[5] / (numbers[1] / 1e6), ..read(&numbers) } }
}

/// What came of round trips.
pub struct RoundTrips {
    pub done: u64,
    pub found: Found,
}
