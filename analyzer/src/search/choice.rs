//! The cheapest choice of one option per group within limits on sums: a multiple-choice knapsack problem with several
//! limits (Kellerer, Pferschy, Pisinger, Knapsack Problems, 2004, chapters 9 and 11).
//!
//! Lagrange multipliers put a price on each limit. With prices, every group's cheapest option can be told alone, which
//! gives a bound from below and a first choice. Branch and bound closes the gap between both, or ends after
//! 200,000 nodes and returns the gap.

/// An option of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// What it costs, at least 0.
    pub cost: f64,
    /// What it takes of each limit, at least 0.
    pub weights: Vec<f64>,
}

/// A choice of one option per group.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// The option of each group.
    pub picks: Vec<usize>,
    /// The sum of their costs.
    pub cost: f64,
    /// No choice within the limits costs less.
    pub lower_bound: f64,
}

impl Solution {
    /// How far the cost may be from the least, as a share of it.
    pub fn gap(&self) -> f64 {
        if self.cost > 0.0 { (1.0 - self.lower_bound / self.cost).max(0.0) } else { 0.0 }
    }
}

/// Nodes of the tree that are visited at most.
const MAX_NODES: u64 = 200_000;
/// Rounds in which the price of each limit is set in turn.
const ROUNDS: usize = 8;
/// Halvings of the range of a price.
const HALVINGS: usize = 60;
/// Sums of weights may exceed a limit by this share, which is rounding.
const ROUNDING: f64 = 1e-12;

/// Finds the cheapest choice whose weights sum to at most `limits`. `None` if no choice was found within them.
///
/// # Panics
/// If an option lacks a weight.
pub fn choose(groups: &[Vec<Choice>], limits: &[f64]) -> Option<Solution> {
    let problem = Knapsack::new(groups, limits)?;
    let prices = problem.find_prices();
    let lower_bound = problem.price(&prices);
    let first = problem.repair(problem.cheapest(&prices));
    let mut search = BranchAndBound::new(&problem, &prices, first);
    search.descend(0, 0.0);
    let is_complete = search.nodes < MAX_NODES;
    let cost = search.best_cost;
    let picks = problem.numbers(&search.best?);
    Some(Solution { picks, cost, lower_bound: if is_complete { cost } else { lower_bound.min(cost) } })
}

/// Groups without options that another one beats, and limits of 1.
struct Knapsack {
    groups: Vec<Vec<KnapsackOption>>,
    limits: usize,
}

/// An option that no other one beats.
struct KnapsackOption {
    number: usize,
    cost: f64,
    /// Shares of the limits.
    weights: Vec<f64>,
}

impl Knapsack {
    /// `None` if every option of a group exceeds a limit alone.
    fn new(groups: &[Vec<Choice>], limits: &[f64]) -> Option<Self> {
        let scale = |weight: f64, limit: f64| match (weight, limit) {
            (0.0, _) => 0.0,
            (_, 0.0) => f64::INFINITY,
            _ => weight / limit,
        };
        let candidate = |(number, choice): (usize, &Choice)| KnapsackOption {
            number,
            cost: choice.cost,
            weights: choice.weights.iter().zip(limits).map(|(&weight, &limit)| scale(weight, limit)).collect(),
        };
        let is_possible = |one: &KnapsackOption| one.weights.iter().all(|&weight| weight <= 1.0 + ROUNDING);
        let possible = |group: &Vec<Choice>| group.iter().enumerate().map(candidate).filter(is_possible).collect();
        let groups: Vec<Vec<KnapsackOption>> = groups.iter().map(possible).map(keep_unbeaten).collect();
        groups.iter().all(|group| !group.is_empty()).then_some(Self { groups, limits: limits.len() })
    }

    /// The cost with a price on each limit, less what the limits are worth: a bound from below.
    fn price(&self, prices: &[f64]) -> f64 {
        let cheapest =
            |group: &Vec<KnapsackOption>| group.iter().map(|one| one.priced(prices)).fold(f64::INFINITY, f64::min);
        self.groups.iter().map(cheapest).sum::<f64>() - prices.iter().sum::<f64>()
    }

    /// The option of each group that is cheapest with prices, by place in the group.
    fn cheapest(&self, prices: &[f64]) -> Vec<usize> {
        let cheapest = |group: &Vec<KnapsackOption>| {
            let mut best = 0;
            for (place, candidate) in group.iter().enumerate() {
                if candidate.priced(prices) < group[best].priced(prices) {
                    best = place;
                }
            }
            best
        };
        self.groups.iter().map(cheapest).collect()
    }

    /// Sums of the picks' weights.
    fn loads(&self, picks: &[usize]) -> Vec<f64> {
        let mut loads = vec![0.0; self.limits];
        for (group, &pick) in self.groups.iter().zip(picks) {
            loads.iter_mut().zip(&group[pick].weights).for_each(|(load, weight)| *load += weight);
        }
        loads
    }

    /// Prices with which the bound from below is about as high as it gets: of each limit in turn, the price at which it
    /// is just kept.
    fn find_prices(&self) -> Vec<f64> {
        let mut prices = vec![0.0; self.limits];
        let most: f64 = self.groups.iter().flatten().map(|candidate| candidate.cost).sum();
        for _ in 0..ROUNDS {
            for limit in 0..self.limits {
                let (mut low, mut high) = (0.0, most.max(1.0) * 1e6);
                prices[limit] = 0.0;
                if self.loads(&self.cheapest(&prices))[limit] <= 1.0 {
                    continue;
                }
                for _ in 0..HALVINGS {
                    // Prices range over many powers of ten.
                    let middle = if low == 0.0 { high * 1e-6 } else { f64::sqrt(low * high) };
                    prices[limit] = middle;
                    if self.loads(&self.cheapest(&prices))[limit] <= 1.0 { high = middle } else { low = middle }
                }
                prices[limit] = high;
            }
        }
        prices
    }

    /// Numbers of the options as they were given.
    fn numbers(&self, picks: &[usize]) -> Vec<usize> {
        self.groups.iter().zip(picks).map(|(group, &pick)| group[pick].number).collect()
    }

    fn cost(&self, picks: &[usize]) -> f64 {
        self.groups.iter().zip(picks).map(|(group, &pick)| group[pick].cost).sum()
    }

    /// Makes a choice keep the limits: while one is exceeded, takes the option that reduces most of the excess for its
    /// cost.
    fn repair(&self, mut picks: Vec<usize>) -> Option<Vec<usize>> {
        let excess = |loads: &[f64]| loads.iter().map(|load| (load - 1.0 - ROUNDING).max(0.0)).sum::<f64>();
        loop {
            let loads = self.loads(&picks);
            let before = excess(&loads);
            if before <= 0.0 {
                return Some(picks);
            }
            let mut best: Option<(f64, usize, usize)> = None;
            for (number, group) in self.groups.iter().enumerate() {
                let now = &group[picks[number]];
                for (place, candidate) in group.iter().enumerate() {
                    let changed = loads.iter().zip(&now.weights).zip(&candidate.weights);
                    let changed: Vec<f64> = changed.map(|((load, less), more)| load - less + more).collect();
                    let reduced = before - excess(&changed);
                    if reduced > ROUNDING {
                        let rate = (candidate.cost - now.cost).max(0.0) / reduced;
                        if best.is_none_or(|(least, ..)| rate < least) {
                            best = Some((rate, number, place));
                        }
                    }
                }
            }
            let (_, number, place) = best?;
            picks[number] = place;
        }
    }
}

impl KnapsackOption {
    fn priced(&self, prices: &[f64]) -> f64 {
        let weighed = |(weight, price): (&f64, &f64)| if *price == 0.0 { 0.0 } else { weight * price };
        self.cost + self.weights.iter().zip(prices).map(weighed).sum::<f64>()
    }

    /// Whether this is no worse than another option in any respect, and better in one or earlier.
    fn beats(&self, other: &Self) -> bool {
        let no_worse = self.cost <= other.cost && self.weights.iter().zip(&other.weights).all(|(a, b)| a <= b);
        no_worse && (self.cost < other.cost || self.weights != other.weights || self.number < other.number)
    }
}

/// The options that no other one beats.
fn keep_unbeaten(candidates: Vec<KnapsackOption>) -> Vec<KnapsackOption> {
    let unbeaten = |one: &KnapsackOption| !candidates.iter().any(|other| other.beats(one));
    let kept: Vec<bool> = candidates.iter().map(unbeaten).collect();
    candidates.into_iter().zip(kept).filter(|(_, is_kept)| *is_kept).map(|(candidate, _)| candidate).collect()
}

/// Depth-first branch and bound. What is left to choose is bounded by its prices.
struct BranchAndBound<'a> {
    problem: &'a Knapsack,
    /// Groups in the order in which they are decided: those first in which options differ most.
    order: Vec<usize>,
    /// Options of each group in `order`, from the cheapest with prices, each with that price.
    options: Vec<Vec<(f64, usize)>>,
    /// Least priced cost of all groups from a place in `order` on.
    rest: Vec<f64>,
    /// Least weights of all groups from a place in `order` on, by limit.
    rest_weights: Vec<Vec<f64>>,
    /// What the limits are worth at these prices.
    worth: f64,
    loads: Vec<f64>,
    picks: Vec<usize>,
    /// By number of the problem's options.
    best: Option<Vec<usize>>,
    best_cost: f64,
    nodes: u64,
}

impl<'a> BranchAndBound<'a> {
    fn new(problem: &'a Knapsack, prices: &[f64], first: Option<Vec<usize>>) -> Self {
        let priced = |group: &Vec<KnapsackOption>| {
            let mut options: Vec<(f64, usize)> =
                group.iter().enumerate().map(|(place, candidate)| (candidate.priced(prices), place)).collect();
            options.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            options
        };
        let all: Vec<Vec<(f64, usize)>> = problem.groups.iter().map(priced).collect();
        let spread = |group: usize| all[group].get(1).map_or(0.0, |second| second.0 - all[group][0].0);
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by(|&a, &b| spread(b).total_cmp(&spread(a)).then(a.cmp(&b)));
        let options: Vec<Vec<(f64, usize)>> = order.iter().map(|&group| all[group].clone()).collect();
        let mut rest = vec![0.0; order.len() + 1];
        let mut rest_weights = vec![vec![0.0; problem.limits]; order.len() + 1];
        for place in (0..order.len()).rev() {
            rest[place] = rest[place + 1] + options[place][0].0;
            let group = &problem.groups[order[place]];
            let least = |limit: usize| group.iter().map(|one| one.weights[limit]).fold(f64::INFINITY, f64::min);
            let after = rest_weights[place + 1].iter().enumerate();
            rest_weights[place] = after.map(|(limit, rest)| rest + least(limit)).collect();
        }
        Self {
            problem,
            options,
            rest,
            rest_weights,
            worth: prices.iter().sum(),
            loads: vec![0.0; problem.limits],
            picks: vec![0; problem.groups.len()],
            best_cost: first.as_ref().map_or(f64::INFINITY, |first| problem.cost(first)),
            best: first,
            nodes: 0,
            order,
        }
    }

    /// Decides the groups from a place in the order on; those before have this priced cost.
    fn descend(&mut self, place: usize, priced: f64) {
        if place == self.order.len() {
            let cost = self.problem.cost(&self.picks);
            if cost < self.best_cost {
                (self.best_cost, self.best) = (cost, Some(self.picks.clone()));
            }
            return;
        }
        let group = self.order[place];
        for option in 0..self.options[place].len() {
            if self.nodes >= MAX_NODES {
                return;
            }
            self.nodes += 1;
            let (own, candidate) = self.options[place][option];
            let bound = priced + own + self.rest[place + 1] - self.worth;
            // Sums differ in their last digits.
            if bound >= self.best_cost * (1.0 - 1e-12) {
                break;
            }
            let before = self.loads.clone();
            let weights = &self.problem.groups[group][candidate].weights;
            self.loads.iter_mut().zip(weights).for_each(|(load, weight)| *load += weight);
            let mut sums = self.loads.iter().zip(&self.rest_weights[place + 1]);
            if sums.all(|(load, rest)| load + rest <= 1.0 + ROUNDING) {
                self.picks[group] = candidate;
                self.descend(place + 1, priced + own);
            }
            self.loads = before;
        }
    }
}

/// Finds the choice with the least product of its sums of one or two costs, `[groups][options][costs]`, within limits on
/// the sums of weights, `[groups][options][limits]`. The first option of each group weighs nothing, so that there is one.
///
/// A product of two positive sums is least at a corner of the convex hull of all sums. The corners are found from the
/// outside in: between two known ones, the weighted sum of costs that is equal in both is minimised (Aneja and Nair,
/// Bicriteria Transportation Knapsack, Management Science 1979).
///
/// # Panics
/// If there is no choice.
pub fn choose_product(costs: &[Vec<Vec<f64>>], weights: &[Vec<Vec<f64>>], limits: &[f64]) -> Solution {
    let solve = |shares: [f64; 2]| {
        let weighted = |option: &Vec<f64>| option.iter().zip(shares).map(|(cost, share)| cost * share).sum::<f64>();
        let group = |(costs, weights): (&Vec<Vec<f64>>, &Vec<Vec<f64>>)| -> Vec<Choice> {
            let options = costs.iter().zip(weights);
            options.map(|(costs, weights)| Choice { cost: weighted(costs), weights: weights.clone() }).collect()
        };
        let groups: Vec<Vec<Choice>> = costs.iter().zip(weights).map(group).collect();
        choose(&groups, limits).expect("the first options are within the limits")
    };
    if costs.iter().flatten().all(|option| option.len() == 1) {
        return solve([1.0, 0.0]);
    }
    let sum = |picks: &[usize]| {
        let chosen = || costs.iter().zip(picks).map(|(group, &pick)| &group[pick]);
        [0, 1].map(|which| chosen().map(|option| option[which]).sum::<f64>())
    };
    let ends = [[1.0, 0.0], [0.0, 1.0]].map(solve);
    let mut gap = ends.iter().map(Solution::gap).fold(0.0, f64::max);
    let mut corners: Vec<Vec<usize>> = ends.iter().map(|end| end.picks.clone()).collect();
    let mut pending = vec![(corners[0].clone(), corners[1].clone())];
    while let Some((left, right)) = pending.pop() {
        let (a, b) = (sum(&left), sum(&right));
        let shares = [a[1] - b[1], b[0] - a[0]];
        if shares.iter().any(|&share| share <= 0.0) {
            continue;
        }
        let found = solve(shares);
        gap = gap.max(found.gap());
        let edge = shares[0] * a[0] + shares[1] * a[1];
        // Sums differ in their last digits.
        if found.cost < edge * (1.0 - 1e-12) {
            pending.push((left, found.picks.clone()));
            pending.push((found.picks.clone(), right));
            corners.push(found.picks);
        }
    }
    let product = |picks: &Vec<usize>| sum(picks).iter().product::<f64>();
    let best = corners.into_iter().min_by(|a, b| product(a).total_cmp(&product(b))).expect("there are two ends");
    let cost = product(&best);
    // All sums lie above the corners' hull, shrunk by the gap.
    Solution { picks: best, cost, lower_bound: cost * (1.0 - gap).powi(2) }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
