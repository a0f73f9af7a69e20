//! Starting, listing and ending impersonations.

use std::sync::Arc;

use chrono::Duration;

use super::ending;
use super::gate::{Caller, Tx, invalid_token};
use super::grants::Grant;
use super::keys::signer;
use super::oauth::Through;
use super::office::{Event, Office, Settings};
use super::policy::Policies;
use crate::auth::tokens::Verified;
use crate::domain::Time;
use crate::domain::error::{Code, Error, FieldError, Reason, Result};
use crate::domain::history::{NewEntry, Started};
use crate::domain::identity::{Ctx, Viewer};
use crate::domain::ids::{SessionId, UserId};
use crate::domain::impersonation::{
    Bounds, EndCause, Grant as Terms, Hold, Impersonation, Mode, Posture, StartRequest, Usage, Withheld, caller_refusals, refusals,
    start_refusals,
};
use crate::domain::operation::missing_permission;
use crate::domain::page::{Limit, Page, PageRequest};
use crate::domain::policy::{Policy, PolicyTerms};
use crate::domain::role::Permission;
use crate::domain::scope::Scope;
use crate::domain::session::{ActingAs, Kind, Session, TokenTerms};
use crate::domain::text::RestoreChallenge;
use crate::domain::user::{Principal, User, UserRef};
use crate::store::sessions::{self, ImpersonationFilter, NewActing, NewImpersonation, NewSession, WayBack};
use crate::store::{Conn, DecidedStart, Lock, articles, entries, keys, users};

pub use crate::store::sessions::ImpersonationFilter as Filter;

impl Office {
    /// Begins to act as `subject`, and answers the token for it.
    ///
    /// # Errors
    /// 403 `impersonation_refused` with every reason that holds, which is recorded; 404 where there is no such user, for a caller who may see users; 422 where
    /// the policy asks for more than was given.
    pub async fn start_impersonation(&self, caller: &Caller, subject: UserId, request: StartRequest) -> Result<Grant> {
        self.start_through(caller, subject, request, None).await
    }

    /// As [`Office::start_impersonation`], where a client asks for it at the token endpoint.
    ///
    /// # Errors
    /// As there, and what `through` refuses.
    pub(super) async fn start_through(
        &self,
        caller: &Caller,
        subject: UserId,
        request: StartRequest,
        through: Option<Through>,
    ) -> Result<Grant> {
        let decided = if through.is_none() { self.decide_start(caller, subject, &request).await?.map(Arc::new) } else { None };
        let shared = match &decided {
            Some(decided) => self.db.start_impersonation(decided).await?.map(|kid| (Arc::clone(&decided.new.session), kid)),
            None => None,
        };
        let (started, kid) = match shared {
            Some(started) => {
                begun(&started.0).iter().for_each(|event| (self.observer)(event));
                started
            }
            None => self.start_by_itself(caller, subject, request, through, decided).await?,
        };
        let expires_at = started.expires_at;
        self.grant(started, &kid, caller.ctx.now, expires_at, None).await
    }

    /// Starts in a transaction of its own: what was decided, if that stands; or what is decided there.
    async fn start_by_itself(
        &self,
        caller: &Caller,
        subject: UserId,
        request: StartRequest,
        through: Option<Through>,
        decided: Option<Arc<DecidedStart>>,
    ) -> Result<(Arc<Session>, String)> {
        let (settings, policies, token) = (self.settings.clone(), Arc::clone(&self.policies), caller.token.clone());
        let open = move |tx: &mut Tx<'_>| {
            let Some(decided) = &decided else { return Ok(None) };
            let Some(kid) = decided.apply(tx.conn)? else { return Ok(None) };
            tx.events.extend(begun(&decided.new.session));
            Ok(Some(Ok((Arc::clone(&decided.new.session), kid))))
        };
        let started = self.write_decided(caller, open, move |tx| {
            let judged = judge(tx, &policies, &token, subject, &request, through.as_ref())?;
            let terms = match judged {
                Ok(terms) => terms,
                // A value and not an error, because its entry has to be committed.
                Err(reasons) => return record_refusal(tx, subject, reasons).map(Err),
            };
            let new = new_impersonation(&tx.ctx, &settings, &token, terms, request.restore_challenge.as_ref());
            let kid = signer(tx.conn, settings.signing_algorithm)?;
            sessions::open_impersonation(tx.conn, &new, &kid)?;
            tx.events.extend(begun(&new.session));
            Ok(Ok((new.session, kid)))
        });
        started.await?
    }

    /// Decides before it is written, by what was read when the caller was admitted. Nothing where that can't be, and where anything speaks against it.
    async fn decide_start(&self, caller: &Caller, subject: UserId, request: &StartRequest) -> Result<Option<DecidedStart>> {
        let Some(ground) = caller.standing_ground() else { return Ok(None) };
        let identity = caller.ctx.identity()?;
        let policy = identity.policy();
        // What was started is counted, and articles are looked at, by the long way alone.
        if policy.limits_starts() || request.bounds.articles.is_some() {
            return Ok(None);
        }
        let Some(subject) = self.db.user(subject).await? else { return Ok(None) };
        let who = identity.subject();
        let is_refused = !refusals(who, &subject.to_principal(), Posture::of(identity), policy).is_empty()
            || !start_refusals(who, request.mode, Usage::default(), policy).is_empty()
            || bounds_not_held(&subject, &request.bounds).next().is_some();
        let Ok(duration) = check_terms(&policy.terms, request) else { return Ok(None) };
        if is_refused {
            return Ok(None);
        }
        let grant = terms_of(policy, who, request);
        let judged = Judged::of(&caller.ctx, &caller.token, who.clone(), Arc::unwrap_or_clone(subject), grant, duration, None)?;
        let new = new_impersonation(&caller.ctx, &self.settings, &caller.token, judged, request.restore_challenge.as_ref());
        Ok(Some(DecidedStart { ground, new, algorithm: self.settings.signing_algorithm.as_str() }))
    }

    /// Answers exactly what [`Office::start_impersonation`] would, and issues and records nothing: not even a refusal.
    ///
    /// # Errors
    /// As there.
    pub async fn try_impersonation(&self, caller: &Caller, subject: UserId, request: StartRequest) -> Result<Trial> {
        let (policies, token) = (Arc::clone(&self.policies), caller.token.clone());
        let tried = self.write(caller, move |tx| {
            let judged = judge(tx, &policies, &token, subject, &request, None)?;
            Ok(judged.map(|judged| Trial::new(tx, judged)))
        });
        let tried = tried.await.and_then(|judged| judged.map_err(refused));
        let is_refusal = |error: &Error| matches!(error.code(), Code::ImpersonationRefused | Code::InvalidRequest | Code::NotFound);
        if tried.as_ref().map_or_else(is_refusal, |_| true) {
            (self.observer)(&Event::ImpersonationTried(tried.is_ok()));
        }
        tried
    }
}

/// What a start would give.
#[derive(Debug)]
pub struct Trial {
    pub subject: Principal,
    pub actor: UserRef,
    pub grant: Terms,
    pub withheld: Vec<Withheld>,
    pub started_at: Time,
    pub expires_at: Time,
}

impl Trial {
    fn new(tx: &Tx<'_>, judged: Judged) -> Self {
        let Judged { subject, actor, grant, expires_at, .. } = judged;
        let withheld = Hold { mode: grant.mode, is_read_only_by_policy: false, bounds: &grant.bounds, policy: &tx.policy }.withheld();
        Self { subject: subject.to_principal(), actor: actor.user, grant, withheld, started_at: tx.ctx.now, expires_at }
    }
}

/// A start that is allowed.
struct Judged {
    subject: User,
    actor: Principal,
    original: SessionId,
    original_session_expires_at: Time,
    grant: Terms,
    /// What a client lays down that asks for it.
    token_terms: Option<TokenTerms>,
    expires_at: Time,
    /// When the token expires with which it is started.
    original_expires_at: Time,
}

fn refused(reasons: Vec<Reason>) -> Error {
    Error::refused(Code::ImpersonationRefused, "you may not act as this user", reasons)
}

/// Decides whether the caller may act as `subject`, and on which terms; changes nothing.
///
/// Where others write meanwhile, twice: first as things are, without holding anything, so that whoever is refused keeps nobody waiting, a freeze least of all.
/// Then again with all of it locked to the end of the transaction: what the actor has started, the policy, the actor, the subject, the token's key.
fn judge(
    tx: &mut Tx<'_>,
    policies: &Policies,
    token: &Verified,
    subject: UserId,
    request: &StartRequest,
    through: Option<&Through>,
) -> Result<Result<Judged, Vec<Reason>>> {
    let identity = tx.ctx.identity()?.clone();
    let posture = Posture::of(&identity);
    let caller = identity.subject().clone();
    if !caller.holds(Permission::UsersRead) {
        // Who may not see users learns nothing of them: a missing and a forbidden one look alike, and leave the same trace.
        let reasons = caller_refusals(&caller, subject, posture, &tx.policy);
        if !reasons.is_empty() {
            return Ok(Err(reasons));
        }
    }
    let asked = users::find(tx.conn, subject, Lock::None)?.ok_or_else(Error::not_found)?;
    let reasons = reasons(tx, &caller, &asked, posture, request.mode)?;
    if !reasons.is_empty() {
        return Ok(Err(reasons));
    }
    let (caller, subject) = if tx.conn.stands_still() {
        (caller, asked)
    } else {
        let (caller, subject) = lock_people(tx, policies, &caller, subject)?;
        let reasons = self::reasons(tx, &caller, &subject, posture, request.mode)?;
        if !reasons.is_empty() {
            return Ok(Err(reasons));
        }
        (caller, subject)
    };
    let policy = Arc::clone(&tx.policy);
    let duration = check_terms(&policy.terms, request)?;
    check_bounds(tx.conn, &subject, &request.bounds)?;
    let rights = request.bounds.permissions.map_or(Scope::of_role(subject.role), |bound| bound.and(Scope::of_role(subject.role)));
    let token_terms = through.map(|through| through.terms(tx.conn, rights)).transpose()?;
    // A way back to a token whose key is being retired would lead nowhere.
    if !tx.conn.stands_still() && !keys::hold(tx.conn, &token.kid)? {
        return Err(invalid_token());
    }
    let grant = terms_of(&policy, &caller, request);
    Judged::of(&tx.ctx, token, caller, subject, grant, duration, token_terms).map(Ok)
}

/// On which terms an actor acts who asks so.
fn terms_of(policy: &Policy, actor: &Principal, request: &StartRequest) -> Terms {
    let mode = policy.mode_for(actor.role, request.mode.unwrap_or(policy.terms.default_mode));
    Terms { reason: request.reason.clone(), ticket: request.ticket.clone(), mode, bounds: request.bounds.clone() }
}

impl Judged {
    /// What comes of a start that nothing speaks against.
    fn of(
        ctx: &Ctx,
        token: &Verified,
        actor: Principal,
        subject: User,
        grant: Terms,
        duration: u32,
        token_terms: Option<TokenTerms>,
    ) -> Result<Self> {
        let original = ctx.identity()?.session();
        let original_expires_at =
            Time::from_timestamp(token.claims.exp, 0).ok_or_else(|| Error::internal("a token's expiry is no time"))?;
        Ok(Self {
            actor,
            original: original.id,
            original_session_expires_at: original.expires_at,
            grant,
            token_terms,
            expires_at: (ctx.now + Duration::seconds(i64::from(duration))).min(original_expires_at),
            original_expires_at,
            subject,
        })
    }
}

/// Locks, to the commit, what a start is decided by, and reads it again: the caller, and whom they would act as.
fn lock_people(tx: &mut Tx<'_>, policies: &Policies, caller: &Principal, subject: UserId) -> Result<(Principal, User)> {
    // One start of an actor's at a time, where they are counted.
    if tx.policy.limits_starts() {
        users::lock_starts(tx.conn, caller.id())?;
    }
    // A freeze waits for it, and then ends what this began; or was first.
    tx.policy = policies.read(tx.conn, Lock::Share)?;
    // So that nobody is promoted or disabled between this look and the commit.
    let row = users::find(tx.conn, caller.id(), Lock::Share)?.ok_or_else(|| Error::internal("a caller has no row"))?;
    let subject = users::find(tx.conn, subject, Lock::Share)?.ok_or_else(Error::not_found)?;
    Ok((Principal { scope: caller.scope, ..row.to_principal() }, subject))
}

/// Why the policy, as the transaction knows it, refuses this start: all reasons that hold.
fn reasons(tx: &mut Tx<'_>, caller: &Principal, subject: &User, posture: Posture, mode: Option<Mode>) -> Result<Vec<Reason>> {
    let mut reasons = refusals(caller, &subject.to_principal(), posture, &tx.policy);
    if caller.holds(Permission::UsersImpersonate) {
        let usage = usage(tx.conn, &tx.policy, caller.id(), tx.ctx.now)?;
        reasons.extend(start_refusals(caller, mode, usage, &tx.policy));
    }
    Ok(reasons)
}

/// What the actor has started already, as far as the policy limits it: without a limit nothing is counted.
fn usage(conn: &mut Conn, policy: &Policy, actor: UserId, now: Time) -> Result<Usage> {
    let (most_live, most_starts) = (policy.terms.max_live_per_actor, policy.terms.max_starts_per_hour);
    let live = if most_live > 0 { sessions::count_live_by(conn, actor, now, most_live)? } else { 0 };
    let an_hour_ago = now - Duration::hours(1);
    let within_the_hour = if most_starts > 0 { sessions::count_started_by(conn, actor, an_hour_ago, most_starts)? } else { 0 };
    Ok(Usage { live, within_the_hour })
}

fn record_refusal(tx: &mut Tx<'_>, subject: UserId, reasons: Vec<Reason>) -> Result<Error> {
    let identity = tx.ctx.identity()?.clone();
    let entry = NewEntry::impersonation_refused(&tx.ctx, subject, &reasons);
    // Under impersonation counted apart: two people who act as one user are two callers, and neither of them is the user.
    match identity.impersonation_id() {
        Some(impersonation) => entries::append_refusal(tx.conn, impersonation, subject, &entry)?,
        None => entries::append_refusal(tx.conn, identity.subject().id(), subject, &entry)?,
    }
    tx.events.extend(reasons.iter().map(|reason| Event::ImpersonationRefused(reason.code)));
    Ok(refused(reasons))
}

fn begun(session: &Session) -> Option<Event> {
    session.acting_as().map(|acting| Event::ImpersonationStarted(acting.grant.mode))
}

/// What is written when an impersonation begins, and the session that it gives.
fn new_impersonation(
    ctx: &Ctx,
    settings: &Settings,
    token: &Verified,
    judged: Judged,
    challenge: Option<&RestoreChallenge>,
) -> NewImpersonation {
    let Judged { subject, actor, original, original_session_expires_at, grant, token_terms, expires_at, original_expires_at } = judged;
    let (id, now) = (SessionId::new(ctx.now), ctx.now);
    let told = Started {
        reason: grant.reason.as_ref(),
        ticket: grant.ticket.as_ref(),
        mode: grant.mode,
        bounds: &grant.bounds,
        expires_at,
        terms: token_terms.as_ref(),
    };
    let entry = NewEntry::impersonation_started(ctx, id, &subject.to_ref(), &told);
    // A token that others are to have too must not become the administrator's in their hands: without a proof nothing comes back.
    let is_ours_alone = token_terms.as_ref().is_none_or(|terms| matches!(&terms.audiences[..], [one] if one.as_str() == settings.audience));
    let challenge = challenge.cloned().or_else(|| (!is_ours_alone).then(RestoreChallenge::unmeetable));
    let way = WayBack { kid: token.kid.clone(), signing_input: token.signing_input.clone(), challenge, expires_at: original_expires_at };
    let row = NewSession {
        id,
        subject: subject.id,
        acting: Some(NewActing { actor: actor.id(), original_session: original, grant: grant.clone() }),
        terms: token_terms.clone(),
        client_ip: None,
        user_agent: None,
        started_at: now,
        expires_at,
    };
    let acting = ActingAs {
        actor: Principal { scope: None, ..actor },
        original_session: original,
        original_ended_at: None,
        original_expires_at: original_session_expires_at,
        grant,
    };
    let session = Session {
        id,
        subject: Principal { scope: token_terms.as_ref().map(|terms| terms.scope), ..subject.to_principal() },
        kind: Kind::Impersonation(Box::new(acting)),
        started_at: now,
        expires_at,
        last_used_at: now,
        ended: None,
        terms: token_terms,
    };
    NewImpersonation { row, way, entry, session: Arc::new(session), subject_version: subject.version }
}

/// What the policy asks of a start; answers its duration in seconds.
fn check_terms(terms: &PolicyTerms, request: &StartRequest) -> Result<u32> {
    let mut errors = Vec::new();
    let mut refuse = |pointer: &str, code: &str, detail: String| errors.push(FieldError::new(pointer, code, detail));
    match &request.reason {
        None if terms.reason_required => refuse("/reason", "required", "say why you act as this user".to_owned()),
        Some(reason) if reason.as_str().chars().count() < terms.reason_min_length as usize => {
            refuse("/reason", "too_short", format!("must have at least {} characters", terms.reason_min_length));
        }
        _ => {}
    }
    match (&request.ticket, &terms.ticket_pattern) {
        (None, _) if terms.ticket_required => refuse("/ticket", "required", "name the support ticket".to_owned()),
        (Some(ticket), Some(pattern)) if !pattern.matches(ticket.as_str()) => {
            refuse("/ticket", "invalid_ticket", format!("must match `{}`", pattern.as_str()));
        }
        _ => {}
    }
    if terms.restore_proof_required && request.restore_challenge.is_none() {
        refuse("/restore_challenge", "required", "a restore proof is mandatory here".to_owned());
    }
    let duration = request.duration_seconds.unwrap_or_else(|| terms.usual_duration());
    if !(1..=terms.max_duration_seconds).contains(&duration) {
        refuse("/duration_seconds", "out_of_range", format!("must be 1 to {} seconds", terms.max_duration_seconds));
    }
    if errors.is_empty() { Ok(duration) } else { Err(Error::invalid(errors)) }
}

fn bounds_not_held(subject: &User, bounds: &Bounds) -> impl Iterator<Item = FieldError> {
    let role = subject.role;
    let wanting = bounds.permissions.into_iter().flat_map(Scope::permissions).filter(move |permission| !role.holds(*permission));
    wanting.map(|permission| FieldError::new("/permissions", "not_held", format!("the user does not hold `{permission}`")))
}

/// That a start asks for less and not for more: permissions that the subject holds, and articles that the subject may see.
fn check_bounds(conn: &mut Conn, subject: &User, bounds: &Bounds) -> Result<()> {
    let mut errors: Vec<FieldError> = bounds_not_held(subject, bounds).collect();
    let subject = subject.to_principal();
    for (index, id) in bounds.articles.iter().flatten().enumerate() {
        let seen = articles::find(conn, *id, Lock::None)?.filter(|article| article.is_visible_to(Viewer::User(&subject)));
        if seen.is_none() {
            let detail = "there is no such article that the user may see";
            errors.push(FieldError::new(format!("/resources/{index}"), "unknown_resource", detail));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Error::invalid(errors)) }
}

/// Why `caller` may not act as `subject`, for the button on the user's page; `None` for a caller who may not impersonate at all and so is shown none.
/// `usage` is what [`used`] found.
pub fn button(caller: &Ctx, subject: &Principal, usage: Usage) -> Result<Option<Vec<Reason>>> {
    if caller.viewer()?.user().is_none() {
        return Ok(None);
    }
    let identity = caller.identity()?;
    let (who, policy) = (identity.subject(), identity.policy());
    Ok(who.holds(Permission::UsersImpersonate).then(|| {
        let mut reasons = refusals(who, subject, Posture::of(identity), policy);
        reasons.extend(start_refusals(who, None, usage, policy));
        reasons
    }))
}

/// What the caller has started already, for [`button`]: once for however many users.
pub fn used(conn: &mut Conn, caller: &Ctx) -> Result<Usage> {
    match caller.identity() {
        Ok(identity) if identity.subject().holds(Permission::UsersImpersonate) => {
            usage(conn, identity.policy(), identity.subject().id(), caller.now)
        }
        _ => Ok(Usage::default()),
    }
}

/// Live and past impersonations, newest first.
pub fn list(conn: &mut Conn, ctx: &Ctx, filter: &ImpersonationFilter, page: &PageRequest<SessionId>) -> Result<Page<Impersonation>> {
    sessions::list_impersonations(conn, filter, ctx.now, page)
}

/// The impersonations in which the caller was the subject.
pub fn list_mine(conn: &mut Conn, ctx: &Ctx, page: &PageRequest<SessionId>) -> Result<Page<Impersonation>> {
    let filter = ImpersonationFilter { subject: Some(ctx.subject()?.id()), ..ImpersonationFilter::default() };
    sessions::list_impersonations(conn, &filter, ctx.now, page)
}

/// One impersonation, for its actor, its subject, and holders of `impersonations:read`.
///
/// # Errors
/// 404 for everyone else, whether it exists or not.
pub fn get(conn: &mut Conn, ctx: &Ctx, id: SessionId) -> Result<Impersonation> {
    let caller = ctx.viewer()?;
    let filter = ImpersonationFilter { id: Some(id), ..ImpersonationFilter::default() };
    let page = PageRequest { limit: Limit::DEFAULT, after: None };
    let found = sessions::list_impersonations(conn, &filter, ctx.now, &page)?.items.pop().ok_or_else(Error::not_found)?;
    let is_party = caller.is(found.actor.id) || caller.is(found.subject.id);
    if is_party || caller.holds(Permission::ImpersonationsRead) { Ok(found) } else { Err(Error::not_found()) }
}

/// Ends an impersonation at once, for good: its way back closes too. Ending one that is over already changes nothing else.
///
/// # Errors
/// 404 for who may not see it; 403 for who may see but not end it.
pub fn end(tx: &mut Tx<'_>, id: SessionId) -> Result<()> {
    let caller = tx.ctx.subject()?.clone();
    let session = sessions::find(tx.conn, id, Lock::Update)?.ok_or_else(Error::not_found)?;
    let acting = session.acting_as().ok_or_else(Error::not_found)?;
    let is_party = acting.actor.id() == caller.id() || session.subject.id() == caller.id();
    if !is_party && !caller.holds(Permission::ImpersonationsEnd) {
        let may_see = caller.holds(Permission::ImpersonationsRead);
        return Err(if may_see { missing_permission(Permission::ImpersonationsEnd) } else { Error::not_found() });
    }
    if session.ended.is_some() {
        // It may have ended by itself, which leaves the way back open; a person's end does not.
        sessions::take_way_back(tx.conn, id)?;
        return Ok(());
    }
    if session.expires_at <= tx.ctx.now {
        ending::end_overdue(tx, &session, EndCause::Expired)?;
        sessions::take_way_back(tx.conn, id)?;
        return Ok(());
    }
    ending::end_impersonation(tx, id, tx.ctx.now, EndCause::EndedByPerson, Some(caller.id()))
}

impl Office {
    /// How many impersonations run.
    ///
    /// # Errors
    /// Where the database can't be reached.
    pub async fn count_live_impersonations(&self, now: Time) -> Result<i64> {
        self.db.read(move |conn| sessions::count_live_impersonations(conn, now)).await
    }
}
