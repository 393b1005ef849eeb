//! Random orders: each field alone and in the combinations that mean something.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipam::domain::address::AddressRange;
use ipam::domain::end::End;
use ipam::domain::request::{Choice, Family, Order, Request, Selector, Wanted};
use ipam::domain::strategy::Strategy;
use ipam::store::query::Scope;
use jiff::{SignedDuration, Timestamp};

use crate::model::{Model, Subnet, number, within};
use crate::siege::Dice;

const KEYS: [&str; 4] = ["52:54:00:12:34:56", "serial-7", "x", "rack 12 / unit 3"];

pub struct Author<'a> {
    pub dice: &'a mut Dice,
    pub model: &'a Model,
    pub scope: Scope,
    pub now: Timestamp,
}

impl<'a> Author<'a> {
    pub fn order(&mut self) -> Order {
        let is_list = self.dice.roll(4) == 0;
        let count = if is_list { 1 + self.dice.roll(5) } else { 1 };
        Order {
            requests: (0..count).map(|_| self.request()).collect(),
            is_list,
            dry_run: self.dice.roll(8) == 0,
        }
    }

    pub fn request(&mut self) -> Request {
        let wanted = self.wanted();
        let choice = self.choice(&wanted);
        let end = match self.dice.roll(4) {
            0 => Some(End::After(self.seconds())),
            1 => Some(End::At(self.now + self.seconds())),
            _ => None,
        };
        Request { wanted, choice, end, ..Request::default() }
    }

    pub fn seconds(&mut self) -> SignedDuration {
        SignedDuration::from_secs(1 + self.dice.roll(12) as i64)
    }

    fn wanted(&mut self) -> Wanted {
        let small = 1 + self.dice.roll(4) as usize;
        match self.dice.roll(12) {
            0..=2 => Wanted::Any(1),
            3 => Wanted::Any(small),
            // More than a small subnet has.
            4 => Wanted::Any(5 + self.dice.roll(30) as usize),
            5 => Wanted::PerFamily { ipv4: small, ipv6: self.dice.roll(3) as usize },
            6 => Wanted::PerFamily { ipv4: self.dice.roll(3) as usize, ipv6: small },
            7 | 8 => Wanted::Exactly(self.named()),
            9 => Wanted::Run { family: None, count: 1 + self.dice.roll(9) as usize },
            10 => Wanted::Run { family: Some(self.family()), count: small * 2 },
            _ => {
                let family = self.family();
                let prefix_length = family.bits() - self.dice.roll(4) as u8;
                Wanted::Block { family, prefix_length }
            }
        }
    }

    fn family(&mut self) -> Family {
        if self.dice.roll(2) == 0 { Family::Ipv4 } else { Family::Ipv6 }
    }

    fn choice(&mut self, wanted: &Wanted) -> Choice {
        if matches!(wanted, Wanted::Exactly(_)) {
            return Choice::default();
        }
        let is_one_piece = matches!(wanted, Wanted::Run { .. } | Wanted::Block { .. });
        let mut choice = Choice::default();
        match self.dice.roll(6) {
            0 | 1 => {
                let strategy = Strategy::ALL[self.dice.roll(4) as usize];
                let fits = !is_one_piece || strategy != Strategy::LongestIdle;
                choice.strategy = fits.then_some(strategy);
            }
            2 => {
                let key = KEYS[self.dice.roll(KEYS.len() as u64) as usize];
                choice.affinity = Some(key.into());
            }
            _ => {}
        }
        if self.dice.roll(4) == 0 {
            choice.within = self.ranges();
        }
        if self.dice.roll(5) == 0 {
            choice.except = self.ranges();
        }
        if matches!(self.scope, Scope::Pool(_)) && self.dice.roll(3) == 0 {
            let tags = match self.dice.roll(4) {
                0 => vec!["a".to_owned()],
                1 => vec!["b".to_owned()],
                2 => vec!["a".to_owned(), "b".to_owned()],
                _ => Vec::new(),
            };
            let spread = !is_one_piece && self.dice.roll(2) == 0;
            choice.subnets = Selector { tags, spread };
        }
        choice
    }

    /// Some addresses by name: of those that are asked, most of them free.
    fn named(&mut self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for _ in 0..=self.dice.roll(3) {
            let address = self.some_address();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    fn some_address(&mut self) -> IpAddr {
        let subnet = self.some_subnet();
        let (first, last) = subnet.bounds();
        let spread = u64::try_from(last - first).unwrap_or(u64::MAX).min(40);
        let wished = first + u128::from(self.dice.roll(spread + 1));
        let free = subnet.free(&Choice::default(), self.now);
        let is_free = free.iter().any(|run| within(wished, *run));
        let address = match free.first() {
            Some((lowest, _)) if !is_free && self.dice.roll(3) > 0 => *lowest,
            _ => wished,
        };
        to_address(subnet.family, address)
    }

    fn some_subnet(&mut self) -> &'a Subnet {
        let asked: Vec<&'a Subnet> = self
            .model
            .subnets
            .iter()
            .filter(|subnet| match self.scope {
                Scope::Pool(_) => true,
                Scope::Subnet(id) => subnet.id == id,
            })
            .collect();
        asked[self.dice.roll(asked.len() as u64) as usize]
    }

    /// Ranges about the subnets, of either family; some reach over their ends.
    fn ranges(&mut self) -> Vec<AddressRange> {
        (0..=self.dice.roll(3))
            .map(|_| {
                let first = self.some_address();
                let length = u128::from(self.dice.roll(24));
                let last = to_address(Family::of(first), number(first) + length);
                AddressRange::new(first, last).unwrap()
            })
            .collect()
    }
}

fn to_address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::from_bits(number as u32).into(),
        Family::Ipv6 => Ipv6Addr::from_bits(number).into(),
    }
}
