//! A host: queues between its layers, one step of one layer at a time, KV memory.

use super::steps::Limits;

/// An iteration waiting for a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    pub query: u32,
    /// Tokens of a prompt; zero for the next token of a running query.
    pub prompt_tokens: u32,
    /// Tokens before this iteration.
    pub context_tokens: u32,
}

/// Iterations in the order in which they came, with their sums.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rows {
    pub list: Vec<Row>,
    pub prompts: u32,
    pub prompt_tokens: u64,
    pub decodes: u32,
    pub context_tokens: u64,
}

impl Rows {
    fn push(&mut self, row: Row) {
        self.list.push(row);
        self.count(row);
    }

    fn count(&mut self, row: Row) {
        if row.prompt_tokens > 0 {
            self.prompts += 1;
            self.prompt_tokens += u64::from(row.prompt_tokens);
        } else {
            self.decodes += 1;
            self.context_tokens += u64::from(row.context_tokens);
        }
    }

    fn clear(&mut self) {
        self.list.clear();
        (self.prompts, self.prompt_tokens, self.decodes, self.context_tokens) = (0, 0, 0, 0);
    }

    fn append(&mut self, other: &mut Self) {
        if self.list.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        self.list.append(&mut other.list);
        self.prompts += other.prompts;
        self.prompt_tokens += other.prompt_tokens;
        self.decodes += other.decodes;
        self.context_tokens += other.context_tokens;
        other.clear();
    }

    fn fit(&self, limits: &Limits) -> bool {
        self.prompts <= limits.prompts
            && self.prompt_tokens <= limits.prompt_tokens
            && self.decodes <= limits.decodes
            && self.context_tokens <= limits.context_tokens
    }

    fn fits_beside(&self, row: Row, limits: &Limits) -> bool {
        if row.prompt_tokens > 0 {
            let tokens = self.prompt_tokens + u64::from(row.prompt_tokens);
            self.prompts < limits.prompts && tokens <= limits.prompt_tokens
        } else {
            let context = self.context_tokens + u64::from(row.context_tokens);
            self.decodes < limits.decodes && context <= limits.context_tokens
        }
    }

    /// Moves what fits into a step to `step`, which is empty: in order of arrival, and whoever does
    /// not fit is passed by.
    fn take(&mut self, limits: &Limits, step: &mut Self) {
        if self.fit(limits) {
            std::mem::swap(self, step);
            return;
        }
        let mut list = std::mem::take(&mut self.list);
        self.clear();
        list.retain(|&row| {
            let fits = step.fits_beside(row, limits);
            if fits {
                step.push(row)
            } else {
                self.count(row)
            }
            !fits
        });
        self.list = list;
    }
}

/// What a host does with a step that has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// Its iterations wait for the next layer here.
    Inside,
    /// They have left the last layer: [`Stage::step`] holds them until the caller takes them.
    Leaves,
}

/// A host with the layers it holds. Layers are counted from its first.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub limits: Limits,
    /// Those that wait for each layer.
    pub queues: Vec<Rows>,
    /// The layer worked on, or where work last was.
    layer: usize,
    busy: bool,
    /// What is in the step, or has just left it.
    pub step: Rows,
    /// Tokens whose activations have come in since the first layer last began.
    pub received_tokens: u64,
    /// KV memory in token-layers.
    pub kv_capacity: u64,
    pub kv_used: u64,
}

impl Stage {
    pub fn new(layers: u32, limits: Limits, kv_capacity: u64) -> Self {
        Self {
            limits,
            queues: vec![Rows::default(); layers as usize],
            layer: 0,
            busy: false,
            step: Rows::default(),
            received_tokens: 0,
            kv_capacity,
            kv_used: 0,
        }
    }

    /// An iteration comes in and waits for `layer`.
    pub fn receive(&mut self, row: Row, layer: usize) {
        self.received_tokens += u64::from(row.prompt_tokens.max(1));
        self.queues[layer].push(row);
    }

    /// Starts a step unless one runs or nobody waits. Returns whether it did, and the tokens whose
    /// activations are gathered first; that happens at the first layer.
    pub fn start(&mut self) -> Option<u64> {
        if self.busy {
            return None;
        }
        if self.queues[self.layer].list.is_empty() {
            self.march();
        }
        self.queues[self.layer].take(&self.limits, &mut self.step);
        if self.step.list.is_empty() {
            return None;
        }
        self.busy = true;
        Some(if self.layer == 0 { std::mem::take(&mut self.received_tokens) } else { 0 })
    }

    /// Ends the step that runs.
    pub fn end(&mut self) -> Ended {
        self.busy = false;
        self.kv_used += self.step.prompt_tokens + u64::from(self.step.decodes);
        let ended = match self.queues.get_mut(self.layer + 1) {
            Some(next) => {
                next.append(&mut self.step);
                Ended::Inside
            }
            None => Ended::Leaves,
        };
        self.march();
        ended
    }

    /// Goes on, round and round, to the next layer that somebody waits for; stays if there is none.
    fn march(&mut self) {
        let layers = self.queues.len();
        let waited_for = |at: &usize| !self.queues[*at].list.is_empty();
        if let Some(next) = (1..layers).map(|it| (self.layer + it) % layers).find(waited_for) {
            self.layer = next;
        }
    }

    /// Forgets what has left.
    pub fn clear_step(&mut self) {
        self.step.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(query: u32, prompt_tokens: u32) -> Row {
        Row { query, prompt_tokens, context_tokens: 0 }
    }

    fn decode(query: u32, context_tokens: u32) -> Row {
        Row { query, prompt_tokens: 0, context_tokens }
    }

    fn stage(layers: u32) -> Stage {
        let limits = Limits { prompts: 2, prompt_tokens: 100, decodes: 2, context_tokens: 50 };
        Stage::new(layers, limits, 1000)
    }

    fn queries(rows: &Rows) -> Vec<u32> {
        rows.list.iter().map(|it| it.query).collect()
    }

    #[test]
    fn a_step_takes_in_order_and_passes_by_what_does_not_fit() {
        let mut stage = stage(1);
        let rows = [prompt(0, 60), prompt(1, 60), prompt(2, 40), prompt(3, 1)];
        rows.into_iter().for_each(|it| stage.receive(it, 0));
        let rows = [decode(4, 30), decode(5, 30), decode(6, 20), decode(7, 0)];
        rows.into_iter().for_each(|it| stage.receive(it, 0));
        // 161 tokens of prompts and one of each decode have come in.
        assert_eq!(stage.start(), Some(165));
        // 1 is too long beside 0, 3 a third prompt; 5 has too much context, 7 is a third decode.
        assert_eq!(queries(&stage.step), [0, 2, 4, 6]);
        assert_eq!(queries(&stage.queues[0]), [1, 3, 5, 7]);
        let left = &stage.queues[0];
        let sums = (left.prompts, left.prompt_tokens, left.decodes, left.context_tokens);
        assert_eq!(sums, (2, 61, 2, 30));
        assert_eq!(stage.start(), None, "a step runs");
        assert_eq!((stage.end(), stage.kv_used), (Ended::Leaves, 102));
    }

    #[test]
    fn layers_are_marched_through_in_turn_and_newcomers_wait_for_the_first() {
        let mut stage = stage(3);
        assert_eq!(stage.start(), None, "nobody waits");
        stage.receive(prompt(0, 10), 0);
        assert_eq!(stage.start(), Some(10));
        stage.receive(prompt(1, 10), 0);
        stage.receive(prompt(2, 10), 2);
        assert_eq!(stage.end(), Ended::Inside);
        // The second layer comes next; what came in meanwhile is gathered at the first.
        assert_eq!((stage.start(), queries(&stage.step)), (Some(0), vec![0]));
        assert_eq!(stage.end(), Ended::Inside);
        // In the last layer the two meet, in the order in which they came to it.
        assert_eq!((stage.start(), queries(&stage.step)), (Some(0), vec![2, 0]));
        assert_eq!(stage.end(), Ended::Leaves);
        stage.clear_step();
        assert_eq!((stage.start(), queries(&stage.step)), (Some(20), vec![1]));
        assert_eq!(stage.kv_used, 10 + 10 + 20);
    }
}
