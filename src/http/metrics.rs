//! What Prometheus may scrape.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::domain::client::ClientGrant;
use crate::domain::error::ReasonCode;
use crate::domain::impersonation::{EndCause, Mode};
use crate::domain::string_enum;

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

string_enum! {
    /// How an attempt to log in came out.
    pub enum LoginOutcome {
        Succeeded => "succeeded",
        /// Wrong e-mail address, wrong password, or disabled account.
        Refused => "refused",
        /// Too many failed attempts before this one.
        Limited => "limited",
        /// The hashing pool was full.
        Overloaded => "overloaded",
    }
}

/// Seconds. From an unhashed read to a request that meets its time limit.
const BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The counters and gauges of one process, in a registry of their own. Shared behind an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    logins: IntCounterVec,
    impersonations_started: IntCounterVec,
    impersonations_refused: IntCounterVec,
    impersonations_ended: IntCounterVec,
    impersonations_tried: IntCounterVec,
    impersonations_active: IntGauge,
    tokens_issued: IntCounterVec,
    db_connections: IntGaugeVec,
    hashing_queue: IntGauge,
    hashing_running: IntGauge,
}

/// The gauges' values, looked up when a scrape asks for them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    /// Impersonations that are live now.
    pub impersonations_active: i64,
    /// Database connections that serve a request now.
    pub db_connections_busy: i64,
    /// Database connections that wait for one.
    pub db_connections_idle: i64,
    /// Passwords that wait to be hashed.
    pub hashing_queue: i64,
    /// Passwords that are being hashed.
    pub hashing_running: i64,
}

impl Metrics {
    /// # Errors
    /// Only if two metrics had one name, which a test rules out.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registered(&registry, counters)
        };
        let gauge = |name: &str, help: &str| registered(&registry, IntGauge::new(name, help)?);
        let duration_opts = HistogramOpts::new("actas_http_request_duration_seconds", "Time from a request's head to its answer's")
            .buckets(BUCKETS.to_vec());
        let metrics = Self {
            requests: counters("actas_http_requests_total", "Requests answered", &["method", "route", "status"])?,
            durations: registered(&registry, HistogramVec::new(duration_opts, &["route"])?)?,
            logins: counters("actas_logins_total", "Attempts to log in", &["outcome"])?,
            impersonations_started: counters("actas_impersonations_started_total", "Impersonations started", &["mode"])?,
            impersonations_refused: counters(
                "actas_impersonations_refused_total",
                "Reasons for which starting an impersonation was refused",
                &["reason"],
            )?,
            impersonations_ended: counters("actas_impersonations_ended_total", "Impersonations ended", &["cause"])?,
            impersonations_tried: counters(
                "actas_impersonations_dry_runs_total",
                "Starts of an impersonation that were tried and not made",
                &["outcome"],
            )?,
            tokens_issued: counters("actas_tokens_issued_total", "Tokens that the token endpoint gave", &["grant"])?,
            impersonations_active: gauge("actas_impersonations_active", "Impersonations that are live")?,
            db_connections: registered(
                &registry,
                IntGaugeVec::new(Opts::new("actas_db_connections", "Database connections of this process"), &["state"])?,
            )?,
            hashing_queue: gauge("actas_hashing_queue", "Passwords that wait to be hashed")?,
            hashing_running: gauge("actas_hashing_running", "Passwords that are being hashed")?,
            registry,
        };
        metrics.show_zeros();
        Ok(metrics)
    }

    /// Makes every known label visible from the start, so that a first event is a rise and not a new series.
    fn show_zeros(&self) {
        LoginOutcome::ALL.iter().for_each(|outcome| drop(self.logins.with_label_values(&[outcome.as_str()])));
        Mode::ALL.iter().for_each(|mode| drop(self.impersonations_started.with_label_values(&[mode.as_str()])));
        ClientGrant::ALL.iter().for_each(|grant| drop(self.tokens_issued.with_label_values(&[grant.as_str()])));
        ["allowed", "refused"].iter().for_each(|outcome| drop(self.impersonations_tried.with_label_values(&[outcome])));
        EndCause::ALL.iter().for_each(|cause| drop(self.impersonations_ended.with_label_values(&[cause.as_str()])));
    }

    pub fn login(&self, outcome: LoginOutcome) {
        self.logins.with_label_values(&[outcome.as_str()]).inc();
    }

    pub fn impersonation_started(&self, mode: Mode) {
        self.impersonations_started.with_label_values(&[mode.as_str()]).inc();
    }

    /// Counts every reason of one refusal.
    pub fn impersonation_refused(&self, reasons: impl IntoIterator<Item = ReasonCode>) {
        for reason in reasons {
            self.impersonations_refused.with_label_values(&[reason.as_str()]).inc();
        }
    }

    pub fn impersonation_ended(&self, cause: EndCause) {
        self.impersonations_ended.with_label_values(&[cause.as_str()]).inc();
    }

    /// A start was tried, and would have been allowed or not.
    pub fn impersonation_tried(&self, is_allowed: bool) {
        self.impersonations_tried.with_label_values(&[if is_allowed { "allowed" } else { "refused" }]).inc();
    }

    pub fn token_issued(&self, grant: ClientGrant) {
        self.tokens_issued.with_label_values(&[grant.as_str()]).inc();
    }

    /// Everything, in Prometheus' text format 0.0.4, with the gauges at these values.
    ///
    /// # Errors
    /// What the encoder says; none is known.
    pub fn encode(&self, gauges: Gauges) -> prometheus::Result<String> {
        self.impersonations_active.set(gauges.impersonations_active);
        self.db_connections.with_label_values(&["busy"]).set(gauges.db_connections_busy);
        self.db_connections.with_label_values(&["idle"]).set(gauges.db_connections_idle);
        self.hashing_queue.set(gauges.hashing_queue);
        self.hashing_running.set(gauges.hashing_running);
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// What counts requests, found once a thread for each route: finding it by its labels costs more than counting.
#[derive(Debug)]
pub(super) struct Meters {
    metrics: Arc<Metrics>,
    by_name: RefCell<HashMap<Box<str>, Rc<Meter>>>,
    by_template: RefCell<HashMap<Option<Box<str>>, Rc<Meter>>>,
}

impl Meters {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, by_name: RefCell::default(), by_template: RefCell::default() }
    }

    /// The meter of the route of this name, whose template is looked up the first time only.
    pub(super) fn of_name(&self, name: &str, template: impl FnOnce() -> Option<String>) -> Rc<Meter> {
        if let Some(meter) = self.by_name.borrow().get(name) {
            return Rc::clone(meter);
        }
        let meter = self.of_template(template().as_deref());
        self.by_name.borrow_mut().insert(name.into(), Rc::clone(&meter));
        meter
    }

    /// The meter of the route of this template; with `None`, of whatever no route answers.
    pub(super) fn of_template(&self, template: Option<&str>) -> Rc<Meter> {
        let template = template.map(Box::from);
        let mut known = self.by_template.borrow_mut();
        Rc::clone(known.entry(template.clone()).or_insert_with(|| Rc::new(Meter::new(Arc::clone(&self.metrics), template))))
    }
}

/// What counts the requests of one route.
#[derive(Debug)]
pub(super) struct Meter {
    metrics: Arc<Metrics>,
    template: Option<Box<str>>,
    durations: Histogram,
    requests: RefCell<Vec<(&'static str, StatusCode, IntCounter)>>,
}

impl Meter {
    fn new(metrics: Arc<Metrics>, template: Option<Box<str>>) -> Self {
        let durations = metrics.durations.with_label_values(&[route_label(template.as_deref())]);
        Self { metrics, template, durations, requests: RefCell::default() }
    }

    pub(super) fn template(&self) -> Option<&str> {
        self.template.as_deref()
    }

    /// A request was answered.
    pub(super) fn request_answered(&self, method: &Method, status: StatusCode, duration: Duration) {
        self.durations.observe(duration.as_secs_f64());
        let method = method_label(method);
        let mut known = self.requests.borrow_mut();
        if let Some((_, _, requests)) = known.iter().find(|(m, s, _)| *s == status && *m == method) {
            return requests.inc();
        }
        let requests = self.metrics.requests.with_label_values(&[method, route_label(self.template()), status.as_str()]);
        requests.inc();
        known.push((method, status, requests));
    }
}

fn route_label(template: Option<&str>) -> &str {
    template.unwrap_or("unmatched")
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// A label that strangers can't multiply: any token is a method to HTTP.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_counted_can_be_scraped() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let meters = Meters::new(Arc::clone(&metrics));
        for meter in [meters.of_name("get_user", || Some("/v1/users/{id}".to_owned())), meters.of_name("get_user", || None)] {
            assert_eq!(meter.template(), Some("/v1/users/{id}"));
            meter.request_answered(&Method::GET, StatusCode::OK, Duration::from_millis(3));
        }
        meters.of_template(Some("/v1/users/{id}")).request_answered(&Method::GET, StatusCode::CONFLICT, Duration::ZERO);
        meters.of_template(None).request_answered(&Method::from_bytes(b"BREW").unwrap(), StatusCode::NOT_FOUND, Duration::ZERO);
        metrics.login(LoginOutcome::Refused);
        metrics.impersonation_refused([ReasonCode::Nested, ReasonCode::SelfImpersonation]);
        let gauges = Gauges { impersonations_active: 2, db_connections_idle: 3, ..Gauges::default() };
        let text = metrics.encode(gauges).unwrap();
        for line in [
            r#"actas_http_requests_total{method="GET",route="/v1/users/{id}",status="200"} 2"#,
            r#"actas_http_requests_total{method="GET",route="/v1/users/{id}",status="409"} 1"#,
            r#"actas_http_requests_total{method="other",route="unmatched",status="404"} 1"#,
            r#"actas_http_request_duration_seconds_bucket{route="/v1/users/{id}",le="0.005"} 3"#,
            r#"actas_logins_total{outcome="refused"} 1"#,
            r#"actas_logins_total{outcome="succeeded"} 0"#,
            r#"actas_impersonations_refused_total{reason="self"} 1"#,
            r#"actas_impersonations_ended_total{cause="idle"} 0"#,
            "actas_impersonations_active 2",
            r#"actas_db_connections{state="idle"} 3"#,
            "actas_hashing_queue 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
