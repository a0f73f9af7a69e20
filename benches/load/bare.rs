//! A bare actix-web, in a process of its own, that answers what Actas answered: the same status, headers and body.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::program::Program;

/// One answer of Actas.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    pub status: u16,
    /// Less those that actix-web writes by itself.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// The running server.
pub struct Bare {
    pub url: String,
    _program: Program,
    _directory: TempDir,
}

impl Bare {
    /// Answers each path that ends like this with that; the first that fits counts.
    pub fn start(answers: &[(&str, &Answer)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("answers.json");
        fs::write(&file, serde_json::to_vec(answers).unwrap()).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--bare").arg(file);
        let (program, url) = Program::listening(command);
        Self { url, _program: program, _directory: directory }
    }
}

/// An answer, made as far as it can be beforehand.
struct Ready {
    end: String,
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Ready {
    fn new(end: String, answer: Answer) -> Self {
        // Nothing of it is counted or copied when it is answered.
        let forever = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
        let headers = answer.headers.into_iter();
        Self {
            end,
            status: StatusCode::from_u16(answer.status).unwrap(),
            headers: headers
                .map(|(name, value)| (HeaderName::from_static(forever(name)), HeaderValue::from_static(forever(value))))
                .collect(),
            body: Bytes::from_static(forever(answer.body).as_bytes()),
        }
    }

    fn answer(&self) -> HttpResponse {
        let mut response = HttpResponse::with_body(self.status, self.body.clone());
        for (name, value) in &self.headers {
            response.headers_mut().append(name.clone(), value.clone());
        }
        response.map_into_boxed_body()
    }
}

/// Serves the answers in `file` until it is ended.
pub fn serve(file: &Path) {
    let answers: Vec<(String, Answer)> = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let ready: Vec<Ready> = answers.into_iter().map(|(end, answer)| Ready::new(end, answer)).collect();
    let ready: &'static [Ready] = Vec::leak(ready);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("listening on http://{}", listener.local_addr().unwrap());
    actix_web::rt::System::new().block_on(async move {
        let answer = move |request: HttpRequest, payload: web::Payload| async move {
            // A body that nobody reads would end its connection.
            if request.method() == Method::POST {
                payload.to_bytes().await.unwrap();
            }
            match ready.iter().find(|ready| request.path().ends_with(&ready.end)) {
                Some(ready) => ready.answer(),
                None => HttpResponse::NotFound().finish(),
            }
        };
        HttpServer::new(move || App::new().default_service(web::to(answer))).listen(listener).unwrap().run().await.unwrap();
    });
}
