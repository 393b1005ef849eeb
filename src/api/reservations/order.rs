//! From a body to an [`Order`]: one reservation, or a list of them that is granted as a whole.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::domain::request::{Order, Request, Wanted};
use crate::limits::BULK_ADDRESSES_MAX;
use crate::store::query::Scope;

use super::super::error::{Code, Problem};
use super::body::{OrderBody, WishBody};

impl OrderBody {
    /// What is asked for with this body at `scope`.
    ///
    /// # Errors
    /// A problem that names the field at fault; within a list it begins with the item, as in
    /// `[3].count`.
    pub fn into_order(self, scope: Scope) -> Result<Order, Problem> {
        match self {
            Self::One(wish) => {
                let dry_run = wish.dry_run.0.unwrap_or_default();
                let requests = vec![wish.into_request(scope)?];
                Ok(Order { requests, is_list: false, dry_run })
            }
            Self::List(wishes) => {
                let dry_run = common_dry_run(&wishes)?;
                let requests = wishes.into_iter().enumerate().map(|(index, wish)| {
                    wish.into_request(scope).map_err(|problem| problem.within(&item(index)))
                });
                let requests = requests.collect::<Result<Vec<_>, _>>()?;
                check_total(&requests)?;
                check_named_once(&requests)?;
                Ok(Order { requests, is_list: true, dry_run })
            }
        }
    }
}

/// How an item of the list is named.
fn item(index: usize) -> String {
    format!("[{index}]")
}

/// A list is made as a whole, or only tried as a whole.
fn common_dry_run(wishes: &[WishBody]) -> Result<bool, Problem> {
    let of = |wish: &WishBody| wish.dry_run.0.unwrap_or_default();
    let first = wishes.first().is_some_and(of);
    match wishes.iter().position(|wish| of(wish) != first) {
        None => Ok(first),
        Some(index) => {
            let field = format!("{}.dry_run", item(index));
            let why = "a list is tried as a whole or not at all; say the same in every item";
            Err(Problem::contradiction([&field, "[0].dry_run"], why))
        }
    }
}

/// No two items can have the same address.
fn check_named_once(requests: &[Request]) -> Result<(), Problem> {
    let mut items: HashMap<IpAddr, usize> = HashMap::new();
    for (index, request) in requests.iter().enumerate() {
        let Wanted::Exactly(addresses) = &request.wanted else { continue };
        for address in addresses {
            if let Some(before) = items.insert(*address, index) {
                let fields = [before, index].map(|index| format!("{}.addresses", item(index)));
                let why = format!("both ask for {address}");
                let [before, field] = &fields;
                return Err(Problem::contradiction([field, before], why));
            }
        }
    }
    Ok(())
}

fn check_total(requests: &[Request]) -> Result<(), Problem> {
    let mut total = 0;
    for (index, request) in requests.iter().enumerate() {
        total += request.wanted.count();
        if total > BULK_ADDRESSES_MAX {
            let field = item(index);
            let detail = format!(
                "{field}: makes it more than {BULK_ADDRESSES_MAX} addresses in all; send several lists"
            );
            return Err(Problem::with_field(Code::Invalid, field, detail));
        }
    }
    Ok(())
}
