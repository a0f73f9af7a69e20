//! Starting, listing and ending impersonations.

use chrono::Duration;

use super::ending;
use super::gate::{Caller, Tx, invalid_token};
use super::grants::Grant;
use super::keys::signer;
use super::login::load;
use super::oauth::Through;
use super::office::{Event, Office, Settings};
use crate::auth::tokens::Verified;
use crate::domain::Time;
use crate::domain::error::{Code, Error, FieldError, Reason, Result};
use crate::domain::history::{NewEntry, Started};
use crate::domain::identity::Ctx;
use crate::domain::ids::{SessionId, UserId};
use crate::domain::impersonation::{EndCause, Grant as Terms, Impersonation, Posture, StartRequest, caller_refusals, refusals};
use crate::domain::operation::missing_permission;
use crate::domain::page::{Limit, Page, PageRequest};
use crate::domain::role::Permission;
use crate::domain::scope::Scope;
use crate::domain::session::Session;
use crate::domain::text::RestoreChallenge;
use crate::domain::user::Principal;
use crate::store::sessions::{self, ImpersonationFilter, NewActing, NewSession, WayBack};
use crate::store::{Conn, Lock, entries, keys, users};

pub use crate::store::sessions::ImpersonationFilter as Filter;

impl Office {
    /// Begins to act as `subject`, and answers the token for it.
    ///
    /// # Errors
    /// 403 `impersonation_refused` with every reason that holds, which is recorded; 404 where there is no such user, for a caller who may see users; 422 where
    /// the settings ask for more than was given.
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
        let (settings, token, now) = (self.settings.clone(), caller.token.clone(), caller.ctx.now);
        let started = self.write(caller, move |tx| match start(tx, &settings, &token, subject, &request, through.as_ref())? {
            Ok(session) => Ok(Ok((session, signer(tx.conn, settings.signing_algorithm)?))),
            Err(refusal) => Ok(Err(refusal)),
        });
        let (started, kid) = started.await??;
        let expires_at = started.expires_at;
        self.grant(started, &kid, now, expires_at, None).await
    }
}

/// A refusal is a value and not an error here, because its entry has to be committed.
fn start(
    tx: &mut Tx<'_>,
    settings: &Settings,
    token: &Verified,
    subject: UserId,
    request: &StartRequest,
    through: Option<&Through>,
) -> Result<Result<Session>> {
    let identity = tx.ctx.identity()?.clone();
    let posture = Posture::of(&identity);
    let reasons = if identity.subject().holds(Permission::UsersRead) {
        // Locked, so that nobody is promoted or disabled between this look and the commit.
        let locked = |conn: &mut Conn, id| users::find(conn, id, Lock::Share);
        let caller = locked(tx.conn, identity.subject().id())?.ok_or_else(|| Error::internal("a caller has no row"))?;
        match locked(tx.conn, subject)? {
            Some(subject) => {
                let caller = Principal { scope: identity.subject().scope, ..caller.to_principal() };
                refusals(&caller, &subject.to_principal(), posture)
            }
            None => return Err(Error::not_found()),
        }
    } else {
        // Who may not see users learns nothing of them: a missing and a forbidden one look alike, and leave the same trace.
        caller_refusals(identity.subject(), subject, posture)
    };
    if !reasons.is_empty() {
        let entry = NewEntry::impersonation_refused(&tx.ctx, subject, &reasons);
        // Under impersonation counted apart: two people who act as one user are two callers, and neither of them is the user.
        match identity.impersonation_id() {
            Some(impersonation) => entries::append_refusal(tx.conn, impersonation, subject, &entry)?,
            None => entries::append_refusal(tx.conn, identity.subject().id(), subject, &entry)?,
        }
        tx.events.extend(reasons.iter().map(|reason| Event::ImpersonationRefused(reason.code)));
        return Ok(Err(Error::refused(Code::ImpersonationRefused, "you may not act as this user", reasons)));
    }
    let duration = check_terms(settings, request)?;
    let original_expires_at = Time::from_timestamp(token.claims.exp, 0).ok_or_else(|| Error::internal("a token's expiry is no time"))?;
    let expires_at = (tx.ctx.now + Duration::seconds(i64::from(duration))).min(original_expires_at);

    let id = SessionId::new(tx.ctx.now);
    let terms = Terms { reason: request.reason.clone(), ticket: request.ticket.clone(), mode: request.mode };
    let user = users::find(tx.conn, subject, Lock::None)?.ok_or_else(Error::not_found)?;
    let token_terms = through.map(|through| through.terms(tx.conn, Scope::of_role(user.role))).transpose()?;
    let told =
        Started { reason: terms.reason.as_ref(), ticket: terms.ticket.as_ref(), mode: terms.mode, expires_at, terms: token_terms.as_ref() };
    let entry = NewEntry::impersonation_started(&tx.ctx, id, &user.to_ref(), &told);
    let session = NewSession {
        id,
        subject,
        acting: Some(NewActing { actor: identity.subject().id(), original_session: identity.session().id, grant: terms.clone() }),
        terms: token_terms,
        client_ip: None,
        user_agent: None,
        started_at: tx.ctx.now,
        expires_at,
    };
    // Held to the commit: a way back to a token whose key is being retired would lead nowhere.
    if !keys::hold(tx.conn, &token.kid)? {
        return Err(invalid_token());
    }
    // A token that others are to have too must not become the administrator's in their hands: without a proof nothing comes back.
    let is_ours_alone =
        session.terms.as_ref().is_none_or(|terms| matches!(&terms.audiences[..], [one] if one.as_str() == settings.audience));
    let challenge = request.restore_challenge.clone().or_else(|| (!is_ours_alone).then(RestoreChallenge::unmeetable));
    sessions::insert(tx.conn, &session, &entry)?;
    let way = WayBack { kid: token.kid.clone(), signing_input: token.signing_input.clone(), challenge, expires_at: original_expires_at };
    sessions::insert_way_back(tx.conn, id, &way)?;
    tx.events.push(Event::ImpersonationStarted(terms.mode));
    load(tx, id).map(Ok)
}

/// What the settings ask of a start; answers its duration in seconds.
fn check_terms(settings: &Settings, request: &StartRequest) -> Result<u32> {
    let mut errors = Vec::new();
    if settings.reason_required && request.reason.is_none() {
        errors.push(FieldError::new("/reason", "required", "say why you act as this user"));
    }
    if settings.restore_proof_required && request.restore_challenge.is_none() {
        errors.push(FieldError::new("/restore_challenge", "required", "a restore proof is mandatory here"));
    }
    let duration = request.duration_seconds.unwrap_or(settings.impersonation_ttl.min(settings.impersonation_max));
    if !(1..=settings.impersonation_max).contains(&duration) {
        errors.push(FieldError::new("/duration_seconds", "out_of_range", format!("must be 1 to {} seconds", settings.impersonation_max)));
    }
    if errors.is_empty() { Ok(duration) } else { Err(Error::invalid(errors)) }
}

/// Why `caller` may not act as `subject`, for the button on the user's page; `None` for a caller who may not impersonate at all and so is shown none.
pub fn button(caller: &Ctx, subject: &Principal) -> Result<Option<Vec<Reason>>> {
    if caller.viewer()?.user().is_none() {
        return Ok(None);
    }
    let identity = caller.identity()?;
    let shows = identity.subject().holds(Permission::UsersImpersonate);
    Ok(shows.then(|| refusals(identity.subject(), subject, Posture::of(identity))))
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
