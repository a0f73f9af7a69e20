//! How the statements that nearly every request runs are run: as the connection's own, and kept prepared.

use std::marker::PhantomData;

use diesel::backend::Backend;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
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

/// The statement of this place in the code, kept prepared. Its text must be the same every time: nothing boxed, no `eq_any`, no `AsChangeset`.
macro_rules! kept {
    ($statement:expr) => {{
        struct Here;
        $crate::store::statement::Kept::<_, Here>::new($statement)
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

    fn is_safe_to_cache_prepared(&self, _: &DB) -> QueryResult<bool> {
        Ok(true)
    }
}

impl<S: Query, Place> Query for Kept<S, Place> {
    type SqlType = S::SqlType;
}

impl<Conn, S, Place> RunQueryDsl<Conn> for Kept<S, Place> {}
