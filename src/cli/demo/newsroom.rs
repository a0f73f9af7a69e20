//! The demo's newsroom: its people, its articles, and what they went through.
//!
//! Everything is done by the use cases that the API uses, by people who log in and out, at instants that lie in the past. So the history
//! is as genuine as any.

use std::sync::Arc;

use chrono::{Duration, DurationRound as _};

use crate::auth::passwords::hash_blocking;
use crate::auth::secret::ClientSecret;
use crate::domain::Time;
use crate::domain::article::{Article, ArticleChange, WorkflowStep};
use crate::domain::client::{Audience, ClientChange, ClientGrant, ClientId, ClientStatus, ClientTerms};
use crate::domain::error::{Error, Result};
use crate::domain::identity::Ctx;
use crate::domain::ids::{ArticleId, UserId};
use crate::domain::impersonation::{Bounds, Mode, StartRequest};
use crate::domain::operation::{
    ActOnArticle, CreateArticle, CreateClient, CreateUser, GetArticle, Operation, StartImpersonation, UpdateArticle, UpdateClient,
};
use crate::domain::role::{Permission, Role};
use crate::domain::scope::Scope;
use crate::domain::text::{Abstract, Body, Comment, DisplayName, Email, NewPassword, Reason, TextError, Ticket, Title};
use crate::service::articles::{self, Draft, Step};
use crate::service::clients;
use crate::service::users::{self, NewUser, SetupToken};
use crate::service::{Caller, Client, Office, Tx};

/// Somebody of the newsroom.
pub struct Person {
    pub id: &'static str,
    pub email: &'static str,
    pub password: &'static str,
    pub name: &'static str,
    pub role: Role,
}

pub const ADA: Person = Person {
    id: "01990000-0000-7000-8000-00000000000a",
    email: "ada@newsroom.example",
    password: "ada-in-the-demo",
    name: "Ada Admin",
    role: Role::Administrator,
};
const SAM: Person = Person {
    id: "01990000-0000-7000-8000-00000000000b",
    email: "sam@newsroom.example",
    password: "sam-in-the-demo",
    name: "Sam Support",
    role: Role::Support,
};
pub const ED: Person = Person {
    id: "01990000-0000-7000-8000-00000000000c",
    email: "ed@newsroom.example",
    password: "ed-in-the-demo",
    name: "Ed Editor",
    role: Role::Editor,
};
const EMMA: Person = Person {
    id: "01990000-0000-7000-8000-00000000000d",
    email: "emma@newsroom.example",
    password: "emma-in-the-demo",
    name: "Emma Editor",
    role: Role::Editor,
};
const ANN: Person = Person {
    id: "01990000-0000-7000-8000-00000000000e",
    email: "ann@newsroom.example",
    password: "ann-in-the-demo",
    name: "Ann Author",
    role: Role::Author,
};
const BEN: Person = Person {
    id: "01990000-0000-7000-8000-00000000000f",
    email: "ben@newsroom.example",
    password: "ben-in-the-demo",
    name: "Ben Author",
    role: Role::Author,
};

/// Everyone, the administrator first.
pub const CAST: [Person; 6] = [ADA, SAM, ED, EMMA, ANN, BEN];

/// A service beside the newsroom that accepts its tokens.
pub struct Service {
    pub id: &'static str,
    pub secret: &'static str,
    pub name: &'static str,
    pub audience: &'static str,
}

pub const PRINT_SHOP: Service = Service {
    id: "01990000-0000-7000-8000-0000000000c1",
    secret: "actas_cs_cHJpbnQtc2hvcC1pbi10aGUtZGVtbywgMzIgYnl0ZXM",
    name: "Print shop",
    audience: "https://print.newsroom.example",
};

struct Text {
    id: &'static str,
    title: &'static str,
    r#abstract: &'static str,
    body: &'static str,
}

const STREETCARS: Text = Text {
    id: "01990000-0001-7000-8000-000000000001",
    title: "The streetcars come back",
    r#abstract: "Forty years after the last one, the city lays tracks again.",
    body: "On the first morning, three people stood at the stop. By Friday there were three hundred.",
};
const BAKERY: Text = Text {
    id: "01990000-0002-7000-8000-000000000002",
    title: "Night shift at the bakery",
    r#abstract: "Who bakes what we eat at seven.",
    body: "The ovens are lit at one. At two the street is quiet but for the mixers.",
};
const LIGHTHOUSE: Text = Text {
    id: "01990000-0003-7000-8000-000000000003",
    title: "The last lighthouse keeper",
    r#abstract: "A visit to someone whose work a lamp does now.",
    body: "She still climbs the hundred and twelve steps every evening.",
};
const LIBRARY: Text = Text {
    id: "01990000-0004-7000-8000-000000000004",
    title: "A library without books",
    r#abstract: "What is lent where nothing is printed.",
    body: "Drills, tents, a cello. The books went to the basement.",
};
const TIDES: Text = Text {
    id: "01990000-0005-7000-8000-000000000005",
    title: "On tides",
    r#abstract: "Why the sea comes and goes, and who lives by it.",
    body: "Twice a day the harbour empties, and twice a day somebody forgets.",
};
const BRIDGES: Text = Text {
    id: "01990000-0006-7000-8000-000000000006",
    title: "Seven bridges, one inspector",
    r#abstract: "A week with the engineer who listens to concrete.",
    body: "A hammer, a lamp and forty years of notes.",
};
const MARKET: Text = Text {
    id: "01990000-0007-7000-8000-000000000007",
    title: "Market day in the rain",
    r#abstract: "Sixteen stalls and their regulars.",
    body: "The fishmonger sells out first, whatever the weather.",
};
const CHESS: Text = Text {
    id: "01990000-0008-7000-8000-000000000008",
    title: "Chess in the park",
    r#abstract: "They have met at noon since 1983.",
    body: "Nobody remembers who brought the first board.",
};
const HARBOUR: Text = Text {
    id: "01990000-0009-7000-8000-000000000009",
    title: "Notes from the harbour",
    r#abstract: "",
    body: "Ask the pilots. Look up the year of the flood.",
};

/// The article of the story: submitted, with Ed as its editor.
pub const STORY_ARTICLE: &str = TIDES.id;

/// What somebody does in one sitting.
enum Deed {
    Write(&'static Text),
    Retitle(&'static Text, &'static str),
    Step(&'static Text, WorkflowStep, &'static str),
    Assign(&'static Text, &'static Person),
    /// Acts as somebody for some deeds, and comes back.
    ActAs(&'static Person, &'static str, &'static str, Mode, &'static [Deed]),
}

use Deed::{ActAs, Assign, Retitle, Step as Take, Write};
use WorkflowStep::{Accept, Publish, Reject, RequestRevision, StartReview, Submit, Withdraw};

/// Who sat down to do what, one after the other.
const SITTINGS: &[(&Person, &[Deed])] = &[
    (&ANN, &[Write(&STREETCARS), Take(&STREETCARS, Submit, "")]),
    (&ADA, &[Assign(&STREETCARS, &ED)]),
    (
        &ED,
        &[
            Take(&STREETCARS, StartReview, ""),
            Retitle(&STREETCARS, "The streetcars are back"),
            Take(&STREETCARS, Accept, "A pleasure to read."),
        ],
    ),
    (&BEN, &[Write(&BAKERY), Take(&BAKERY, Submit, ""), Write(&LIGHTHOUSE), Take(&LIGHTHOUSE, Submit, "")]),
    (
        &ADA,
        &[
            Take(&STREETCARS, Publish, ""),
            Assign(&BAKERY, &EMMA),
            Assign(&LIGHTHOUSE, &EMMA),
            ActAs(
                &EMMA,
                "Emma is ill and the review of the bakery is due",
                "HELP-11",
                Mode::Full,
                &[Take(&BAKERY, StartReview, ""), Take(&BAKERY, Accept, "Accepted on Emma's behalf; she agreed on the phone.")],
            ),
        ],
    ),
    (&EMMA, &[Take(&LIGHTHOUSE, StartReview, ""), Take(&LIGHTHOUSE, Reject, "We had this one last year.")]),
    (&ANN, &[Write(&LIBRARY), Take(&LIBRARY, Submit, ""), Write(&TIDES), Take(&TIDES, Submit, "")]),
    (&ADA, &[Assign(&LIBRARY, &EMMA), Assign(&TIDES, &ED)]),
    (&EMMA, &[Take(&LIBRARY, StartReview, ""), Take(&LIBRARY, RequestRevision, "Who pays for it? Please ask.")]),
    (&BEN, &[Write(&BRIDGES), Take(&BRIDGES, Submit, ""), Write(&MARKET), Take(&MARKET, Submit, "")]),
    (&ADA, &[Assign(&BRIDGES, &ED)]),
    (
        &SAM,
        &[
            ActAs(&ANN, "Ann can't find the remark on her article", "HELP-23", Mode::ReadOnly, &[]),
            ActAs(
                &ED,
                "Ed's browser shows an empty page where the review begins",
                "HELP-24",
                Mode::Full,
                &[Take(&BRIDGES, StartReview, ""), Retitle(&BRIDGES, "Seven bridges and their inspector")],
            ),
        ],
    ),
    (&BEN, &[Take(&MARKET, Withdraw, "It needs a dry day."), Write(&CHESS), Take(&CHESS, Submit, "")]),
    (&ANN, &[Write(&HARBOUR)]),
];

/// Between two sittings.
const PAUSE_HOURS: i64 = 11;

/// The instant at which the newsroom opened, so that its last sitting is over well before `now`.
pub fn opening(now: Time) -> Time {
    let hour = now.duration_trunc(Duration::hours(1)).unwrap_or(now);
    let sittings = i64::try_from(SITTINGS.len()).unwrap_or(i64::MAX / 1000);
    hour - Duration::hours(PAUSE_HOURS * (sittings + 1))
}

/// Makes everyone and everything, and answers the articles, newest first.
///
/// # Errors
/// What the use cases say. None is expected.
pub async fn furnish(office: &Office, bcrypt_cost: u32, opening: Time) -> Result<Vec<Article>> {
    let mut past = Past { office, now: opening, articles: Vec::new() };
    past.hire_everyone(bcrypt_cost).await?;
    for (number, (person, deeds)) in (1..).zip(SITTINGS) {
        past.now = opening + Duration::hours(PAUSE_HOURS * number);
        let token = past.log_in(person).await?;
        for deed in *deeds {
            past.perform(&token, deed).await?;
        }
        past.log_out(&token).await?;
    }
    past.articles.reverse();
    Ok(past.articles)
}

/// The past as it is being lived.
struct Past<'a> {
    office: &'a Office,
    now: Time,
    /// As they are now, in the order in which they were written.
    articles: Vec<Article>,
}

impl Past<'_> {
    /// Lets a little time pass, more or less.
    fn tick(&mut self) -> Time {
        let spent = 47 + (self.now.timestamp() * 31) % 83;
        self.now += Duration::milliseconds(spent * 1013);
        self.now
    }

    /// The administrator comes from the command line, as everywhere, and invites the others.
    async fn hire_everyone(&mut self, bcrypt_cost: u32) -> Result<()> {
        let (ada, password) = (new_user(&ADA)?, parsed(NewPassword::parse(ADA.password))?);
        let (hash, ctx) = (hash_blocking(&password, bcrypt_cost)?, Ctx::command_line("made for the demo", self.tick()));
        self.office.db.write(move |conn| users::create_with_password(conn, &ctx, &ada, &hash)).await?;
        let token = self.log_in(&ADA).await?;
        for person in &CAST[1..] {
            let (new, setup) = (new_user(person)?, SetupToken::generate()?);
            let wanted = setup.clone();
            self.act::<CreateUser, _>(&token, move |tx| users::create(tx, &new, &wanted)).await?;
            let password = parsed(NewPassword::parse(person.password))?;
            let now = self.tick();
            self.office.set_password(setup.reveal(), password, Client::unknown(), now).await?;
        }
        self.register_print_shop(&token).await?;
        self.log_out(&token).await
    }

    /// A service with tokens of its own, for which the newsroom's users may have tokens, and which may begin to act as a user with an administrator's token.
    async fn register_print_shop(&mut self, token: &str) -> Result<()> {
        let audiences = vec![parsed(Audience::parse(PRINT_SHOP.audience))?];
        let terms = ClientTerms {
            name: parsed(DisplayName::parse(PRINT_SHOP.name))?,
            status: ClientStatus::Active,
            grants: vec![ClientGrant::ClientCredentials, ClientGrant::Impersonate, ClientGrant::TokenExchange],
            scope: Scope::from_iter([Permission::ArticlesCreate, Permission::ArticlesEditAssigned, Permission::ArticlesReadAll]),
            audiences: vec![audiences[0].clone(), Audience::from_stored(&*self.office.settings.audience)],
            presenters: Vec::new(),
        };
        let id = ClientId::parse(PRINT_SHOP.id).ok_or_else(|| Error::internal("a service of the demo has no id"))?;
        let secret = ClientSecret::parse(PRINT_SHOP.secret).ok_or_else(|| Error::internal("a service of the demo has no secret"))?;
        self.act::<CreateClient, _>(token, move |tx| clients::create(tx, id, &terms, &secret)).await?;
        let change = ClientChange { audiences: Some(audiences), presenters: Some(vec![id]), ..ClientChange::default() };
        self.act::<UpdateClient, _>(token, move |tx| clients::update(tx, ClientId::FirstParty, &change, |_| Ok(()))).await?;
        Ok(())
    }

    async fn log_in(&mut self, person: &Person) -> Result<String> {
        let now = self.tick();
        let grant = self.office.log_in(person.email, person.password.to_owned(), Client::unknown(), now).await?;
        Ok(grant.access_token)
    }

    async fn log_out(&mut self, token: &str) -> Result<()> {
        let now = self.tick();
        let presented = self.office.present(token, now).await?;
        self.office.log_out(presented, None, Client::unknown(), now).await.map(|_| ())
    }

    /// Whoever holds the token, about to make a call of this operation.
    async fn caller<Op: Operation>(&mut self, token: &str) -> Result<Caller> {
        let now = self.tick();
        self.office.admit(self.office.present(token, now).await?, Op::REQUIREMENTS, now, None).await
    }

    async fn act<Op: Operation, T: Send + 'static>(
        &mut self,
        token: &str,
        work: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let caller = self.caller::<Op>(token).await?;
        self.office.write(&caller, work).await
    }

    async fn perform(&mut self, token: &str, deed: &Deed) -> Result<()> {
        let ActAs(subject, reason, ticket, mode, deeds) = deed else { return self.edit(token, deed).await };
        let caller = self.caller::<StartImpersonation>(token).await?;
        let request = StartRequest {
            reason: Some(parsed(Reason::parse(reason))?),
            ticket: Some(parsed(Ticket::parse(ticket))?),
            duration_seconds: None,
            mode: Some(*mode),
            bounds: Bounds::default(),
            restore_challenge: None,
        };
        let acting = self.office.start_impersonation(&caller, subject.user_id()?, request).await?.access_token;
        self.caller::<GetArticle>(&acting).await?;
        for deed in *deeds {
            self.edit(&acting, deed).await?;
        }
        self.log_out(&acting).await
    }

    /// What is done to an article.
    async fn edit(&mut self, token: &str, deed: &Deed) -> Result<()> {
        let article = match deed {
            Write(text) => {
                let draft = Draft {
                    id: text.article_id()?,
                    title: parsed(Title::parse(text.title))?,
                    r#abstract: parsed(Abstract::parse(text.r#abstract))?,
                    body: parsed(Body::parse(text.body))?,
                };
                self.act::<CreateArticle, _>(token, move |tx| articles::create(tx, &draft)).await?
            }
            Retitle(text, title) => {
                let id = text.article_id()?;
                let change = ArticleChange { title: Some(parsed(Title::parse(title))?), ..ArticleChange::default() };
                self.act::<UpdateArticle, _>(token, move |tx| articles::update(tx, id, &change, |_| Ok(())).map(Arc::unwrap_or_clone))
                    .await?
            }
            Take(text, step, comment) => {
                let comment = (!comment.is_empty()).then(|| parsed(Comment::parse(comment))).transpose()?;
                self.step(token, text, Step { step: *step, editor: None, comment }).await?
            }
            Assign(text, editor) => {
                let editor = Some(editor.user_id()?);
                self.step(token, text, Step { step: WorkflowStep::AssignEditor, editor, comment: None }).await?
            }
            ActAs(..) => return Err(Error::internal("nobody acts as somebody while acting as another")),
        };
        match self.articles.iter_mut().find(|known| known.id == article.id) {
            Some(known) => *known = article,
            None => self.articles.push(article),
        }
        Ok(())
    }

    async fn step(&mut self, token: &str, text: &Text, step: Step) -> Result<Article> {
        let id = text.article_id()?;
        self.act::<ActOnArticle, _>(token, move |tx| articles::act(tx, id, &step, |_| Ok(()))).await
    }
}

impl Person {
    fn user_id(&self) -> Result<UserId> {
        UserId::parse(self.id).ok_or_else(|| Error::internal("a person of the demo has no id"))
    }
}

impl Text {
    fn article_id(&self) -> Result<ArticleId> {
        ArticleId::parse(self.id).ok_or_else(|| Error::internal("an article of the demo has no id"))
    }
}

fn new_user(person: &Person) -> Result<NewUser> {
    Ok(NewUser {
        id: person.user_id()?,
        email: parsed(Email::parse(person.email))?,
        display_name: parsed(DisplayName::parse(person.name))?,
        role: person.role,
    })
}

fn parsed<T>(result: Result<T, TextError>) -> Result<T> {
    result.map_err(|error| Error::internal(error.detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_and_everything_has_an_id_of_its_own_in_the_order_of_creation() {
        let people: Vec<_> = CAST.iter().map(|person| person.user_id().unwrap()).collect();
        let texts = SITTINGS.iter().flat_map(|(_, deeds)| deeds.iter()).filter_map(|deed| match deed {
            Write(text) => Some(text),
            _ => None,
        });
        let articles: Vec<_> = texts.map(|text| text.article_id().unwrap()).collect();
        assert!(people.is_sorted_by(|one, next| one < next) && articles.is_sorted_by(|one, next| one < next));
    }
}
