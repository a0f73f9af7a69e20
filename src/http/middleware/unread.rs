//! Bodies that nobody read to their end.
//!
//! actix-http waits for the rest of a chunked body whose reader is gone, without a limit: a client that is refused and then
//! stalls would keep its connection for good. While the reader still exists it closes the connection instead, after a
//! moment in which the client can read the answer. So the reader lives as long as the answer does.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use actix_web::{HttpMessage, HttpResponse};
use futures_util::Stream;

/// A second hand on the body of a request.
#[derive(Clone)]
pub(super) struct Unread(Rc<RefCell<Payload>>);

impl Unread {
    /// Takes hold of the body of `request`, if it has one, which stays as readable as it was.
    pub(super) fn of(request: &mut ServiceRequest) -> Option<Self> {
        match request.take_payload() {
            Payload::None => None,
            payload => {
                let shared = Self(Rc::new(RefCell::new(payload)));
                request.set_payload(Payload::Stream { payload: Box::pin(shared.clone()) });
                Some(shared)
            }
        }
    }

    /// The same response, which lets go of the request's body when it is sent.
    pub(super) fn held_by<B: MessageBody + 'static>(self, response: HttpResponse<EitherBody<B>>) -> HttpResponse<EitherBody<B>> {
        response.map_body(|_, body| EitherBody::right(BoxBody::new(Holding { body: body.boxed(), _unread: self })))
    }
}

impl Stream for Unread {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(cx)
    }
}

struct Holding {
    body: BoxBody,
    _unread: Unread,
}

impl MessageBody for Holding {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(cx)
    }
}
