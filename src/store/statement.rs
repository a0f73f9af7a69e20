//! How the statements that nearly every request runs are run: as the connection's own, and kept prepared.

use std::marker::PhantomData;

use diesel::backend::Backend;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{HasSqlType, Untyped};
use diesel::{QueryResult, RunQueryDsl};

/// Runs one query on whichever connection it is, as that connection's own. Diesel finds the statement by the query's type then; through the two at once it makes
/// the statement's text anew whenever it looks for it.
macro_rules! on_either {
    ($conn:expr, $own:ident => $run:expr) => {
        match $conn {
            $crate::store::Conn::Postgres($own) => $run,
            $crate::store::Conn::Sqlite($own) => $run,
        }
    };
}
pub(super) use on_either;

/// The statement of this place in the code, kept prepared: text, value, text, value, text.
///
/// Where it is `INSERT OR FAIL` on SQLite, that is so that nothing has to be able to undo the statement alone: one of one row that fails has nothing to undo, and so that
/// it could, SQLite would keep a copy of every page that it changes; as it would for a trigger with `RAISE(ABORT)`, and a foreign key that is not deferred. (Where a trigger
/// calls a function it keeps one in any case: on our own connections that is each `UPDATE` of a session or an article, see `presence`.)
macro_rules! kept {
    ($text:expr $(, $type:ty => $value:expr, $rest:literal)* $(,)?) => {{
        struct Here;
        let statement = $crate::store::statement::Words($text);
        $( let statement = $crate::store::statement::Bound::<_, $type, _>::new(statement, $value, $rest); )*
        $crate::store::statement::Kept::<_, Here>::new(statement)
    }};
}
pub(super) use kept;

/// A statement that is kept prepared, where diesel prepares each anew: an UPDATE, because what is set might differ from one to the next, and SQL text.
pub(super) struct Kept<S, Place> {
    statement: S,
    place: PhantomData<Place>,
}

impl<S, Place> Kept<S, Place> {
    pub fn new(statement: S) -> Self {
        Self { statement, place: PhantomData }
    }
}

impl<S, Place: 'static> QueryId for Kept<S, Place> {
    type QueryId = Place;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<DB: Backend, S: QueryFragment<DB>, Place> QueryFragment<DB> for Kept<S, Place> {
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.statement.walk_ast(pass)
    }
}

impl<S, Place> Query for Kept<S, Place> {
    type SqlType = Untyped;
}

impl<Conn, S, Place> RunQueryDsl<Conn> for Kept<S, Place> {}

/// Text that begins a statement.
pub(super) struct Words(pub &'static str);

impl<DB: Backend> QueryFragment<DB> for Words {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        pass.push_sql(self.0);
        Ok(())
    }
}

/// What comes before, a value, and the text behind it.
pub(super) struct Bound<Before, Type, Value> {
    before: Before,
    value: Value,
    after: &'static str,
    of: PhantomData<Type>,
}

impl<Before, Type, Value> Bound<Before, Type, Value> {
    pub fn new(before: Before, value: Value, after: &'static str) -> Self {
        Self { before, value, after, of: PhantomData }
    }
}

impl<DB, Before, Type, Value> QueryFragment<DB> for Bound<Before, Type, Value>
where
    DB: Backend + HasSqlType<Type>,
    Before: QueryFragment<DB>,
    Value: ToSql<Type, DB>,
{
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.before.walk_ast(pass.reborrow())?;
        pass.push_bind_param::<Type, Value>(&self.value)?;
        pass.push_sql(self.after);
        Ok(())
    }
}
