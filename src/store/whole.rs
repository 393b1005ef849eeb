//! A stream of which one can tell whether it is whole: what it is read from says when that was all.

use std::pin::Pin;

use futures_util::stream::{Stream, StreamExt, unfold};

use super::error::Fault;

/// An item or a fault; `None` when that was all.
pub type Piece<T> = Option<Result<T, Fault>>;

/// The items up to the end or the first fault. When the pieces end without an end, that is a fault,
/// too: `unfinished`.
pub fn whole<T: Send + 'static>(
    pieces: impl Stream<Item = Piece<T>> + Send + 'static,
    unfinished: Fault,
) -> impl Stream<Item = Result<T, Fault>> + Send {
    let pieces: Pin<Box<dyn Stream<Item = Piece<T>> + Send>> = Box::pin(pieces);
    unfold(Some((pieces, unfinished)), async |left| {
        let (mut pieces, unfinished) = left?;
        match pieces.next().await {
            Some(Some(Ok(item))) => Some((Ok(item), Some((pieces, unfinished)))),
            Some(Some(Err(fault))) => Some((Err(fault), None)),
            Some(None) => None,
            None => Some((Err(unfinished), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use futures_util::stream::iter;

    use super::*;

    #[tokio::test]
    async fn only_what_says_so_is_whole() {
        let fault = |what| Fault::new("reading", what);
        let collect = async |pieces: Vec<Piece<u8>>| {
            let items = whole(iter(pieces), fault("unfinished")).collect::<Vec<_>>().await;
            items.into_iter().map(|item| item.map_err(|fault| fault.cause)).collect::<Vec<_>>()
        };
        let broken = |cause: &str| Err(cause.to_owned());
        assert_eq!(collect(vec![Some(Ok(1)), None, Some(Ok(2))]).await, [Ok(1)]);
        assert_eq!(collect(vec![Some(Ok(1))]).await, [Ok(1), broken("unfinished")]);
        let failed = vec![Some(Ok(1)), Some(Err(fault("failed"))), Some(Ok(2)), None];
        assert_eq!(collect(failed).await, [Ok(1), broken("failed")]);
    }
}
