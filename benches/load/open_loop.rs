//! Requests by a fixed schedule, whatever became of those before: each is timed from when it should have been sent, so that a server that stands still is not
//! asked less often meanwhile.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::office::Office;
use crate::report::Found;

/// So many that an answer is hardly ever late for the connection's next request.
const CONNECTIONS: u32 = 32;

/// Reads who one is, `rate` times a second.
pub fn read(office: &Office, rate: u32, time: Duration) -> Found {
    let address = office.url.strip_prefix("http://").unwrap();
    let took = Mutex::new(Vec::new());
    let began = Instant::now() + Duration::from_millis(100);
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let took = &took;
            let token = &office.people[connection as usize % office.people.len()].token;
            scope.spawn(move || {
                let request = format!("GET /v1/me HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut own = Vec::new();
                for turn in 0.. {
                    let after = Duration::from_secs(1) * (turn * CONNECTIONS + connection) / rate;
                    if after >= time {
                        break;
                    }
                    let due = began + after;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    stream.write_all(request.as_bytes()).unwrap();
                    read_answer(&mut stream);
                    own.push(due.elapsed());
                }
                took.lock().unwrap().append(&mut own);
            });
        }
    });
    found(f64::from(rate), took.into_inner().unwrap())
}

/// Reads one answer, to its last byte.
fn read_answer(stream: &mut TcpStream) {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the server hung up");
        read.extend_from_slice(&buffer[..count]);
        let Some(head) = read.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&read[..head]).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        let length = text.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
        if read.len() >= head + 4 + length.unwrap() {
            return;
        }
    }
}

/// Rate and times, as a row has them.
pub fn found(rate: f64, mut took: Vec<Duration>) -> Found {
    took.sort();
    let percentile = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)].as_secs_f64() * 1e3;
    Found { rate, p50_ms: percentile(50), p99_ms: percentile(99) }
}
