//! Reading selections: terms and the operators between them, in ClusterShell's spelling or in Ansible's.

use crate::error::{Error, ErrorKind};
use crate::hostset::{Cursor, Syntax};

/// A parsed selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expr {
    /// Whether terms are read as Ansible does: bare group names and `all`.
    pub(super) is_ansible: bool,
    /// What is done to the empty set, one after the other.
    pub(super) steps: Vec<(Op, Operand)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Union,
    Difference,
    Intersection,
    Xor,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    Term(Term),
    Parens(Expr),
    /// Every host of the inventory.
    All,
}

/// A name, hostset, `@group`, glob or `~/regex/`, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) text: String,
    /// The column of its first character, from 1.
    pub(super) column: usize,
}

/// What begins a term that stands for the lines of a file.
pub(super) const FILE_PREFIX: &str = "@file:";

/// Deeper parentheses than this are refused.
const MAX_DEPTH: usize = 64;

/// Parses a selection; `is_name` tells which words name a host or a group, for those that end in `:DIGITS`.
pub(super) fn parse(text: &str, is_name: &dyn Fn(&str) -> bool) -> Result<Expr, Syntax> {
    parse_tokens(text, &tokens(text, false)?, is_name)
}

/// Parses a line of a list: a selection, where terms that only a space separates are united.
pub(super) fn parse_line(text: &str, is_name: &dyn Fn(&str) -> bool) -> Result<Expr, Syntax> {
    parse_tokens(text, &tokens(text, true)?, is_name)
}

fn parse_tokens(text: &str, tokens: &[Token], is_name: &dyn Fn(&str) -> bool) -> Result<Expr, Syntax> {
    match ansible_operator(tokens) {
        Some(_) => Ansible { is_name, items: Vec::new() }.parse(tokens),
        None => {
            let end = text.chars().count() + 1;
            let mut rest = tokens;
            let expr = native(&mut rest, end, MAX_DEPTH)?;
            match rest.first() {
                Some(token) => Err(Syntax::new(token.column(), "\")\" without \"(\"")),
                None => Ok(expr),
            }
        }
    }
}

/// Makes the error that a selection is wrong: one line, then the selection and a caret below the place.
pub(super) fn error(text: &str, syntax: &Syntax) -> Error {
    let Syntax { column, message } = syntax;
    let below = pointed(text, *column);
    Error::new(ErrorKind::Usage, format!("bad selection: {message} at column {column}{below}"))
}

/// Writes two lines below a message: the selection, and a caret below the column.
pub(super) fn pointed(text: &str, column: usize) -> String {
    let shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let caret = " ".repeat(column.saturating_sub(1));
    format!("\n  {shown}\n  {caret}^")
}

#[derive(Clone, Debug)]
enum Token {
    Term(Term),
    Mark { mark: char, column: usize },
}

impl Token {
    fn column(&self) -> usize {
        match self {
            Self::Term(term) => term.column,
            Self::Mark { column, .. } => *column,
        }
    }
}

fn is_mark(c: char) -> bool {
    matches!(c, ',' | '!' | '&' | '^' | '(' | ')')
}

/// Splits a selection into terms and marks; `is_list` puts a comma where only a space stands between two of them.
fn tokens(text: &str, is_list: bool) -> Result<Vec<Token>, Syntax> {
    let mut cursor = Cursor::new(text);
    let mut tokens = Vec::new();
    loop {
        cursor.skip_space();
        let column = cursor.column();
        let Some(c) = cursor.peek() else { return Ok(tokens) };
        let is_after_operand = match tokens.last() {
            Some(Token::Term(term)) => !term.text.ends_with(':'),
            Some(Token::Mark { mark, .. }) => *mark == ')',
            None => false,
        };
        if is_list && is_after_operand && (c == '(' || !is_mark(c)) {
            tokens.push(Token::Mark { mark: ',', column });
        }
        if is_mark(c) {
            cursor.bump();
            tokens.push(Token::Mark { mark: c, column });
            continue;
        }
        if matches!(tokens.last(), Some(Token::Term(term)) if !term.text.ends_with(':')) {
            return Err(Syntax::new(column, "expected an operator: \",\", \"!\", \"&\" or \"^\""));
        }
        let mut text = String::new();
        match c {
            '~' => read_regex(&mut cursor, &mut text)?,
            _ => read_word(&mut cursor, &mut text),
        }
        tokens.push(Token::Term(Term { text, column }));
    }
}

/// Reads `~/…/`, where `\/` stands for a slash, and what follows up to the next operator.
fn read_regex(cursor: &mut Cursor<'_>, text: &mut String) -> Result<(), Syntax> {
    text.extend(cursor.bump());
    if !cursor.take('/') {
        return Err(Syntax::new(cursor.column(), "expected \"/\": a regular expression is written ~/…/"));
    }
    text.push('/');
    loop {
        match cursor.bump() {
            None => return Err(Syntax::new(cursor.column(), "expected \"/\" at the end of the regular expression")),
            Some('\\') if cursor.take('/') => text.push('/'),
            Some('\\') => text.extend(std::iter::once('\\').chain(cursor.bump())),
            Some('/') => break,
            Some(c) => text.push(c),
        }
    }
    text.push('/');
    // Ansible's separator may stand right after it.
    text.push_str(cursor.take_while(|c| c == ':'));
    Ok(())
}

/// Reads up to the next operator, space or regular expression outside brackets.
fn read_word(cursor: &mut Cursor<'_>, text: &mut String) {
    let mut depth = 0_usize;
    while let Some(c) = cursor.peek() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ if depth == 0 && (is_mark(c) || c.is_whitespace()) => break,
            _ => {}
        }
        text.extend(cursor.bump());
        if c == ':' && depth == 0 && cursor.peek() == Some('~') && text != FILE_PREFIX {
            break;
        }
    }
}

/// Returns the place of an operator that only Ansible has: `:&`, `:!`, `,&` or `,!`.
fn ansible_operator(tokens: &[Token]) -> Option<usize> {
    tokens.windows(2).find_map(|pair| match pair {
        [Token::Term(term), Token::Mark { mark: '!' | '&', column }] if term.text.ends_with(':') => Some(*column),
        [Token::Mark { mark: ',', .. }, Token::Mark { mark: '!' | '&', column }] => Some(*column),
        _ => None,
    })
}

fn native(rest: &mut &[Token], end: usize, depth: usize) -> Result<Expr, Syntax> {
    let mut steps = Vec::new();
    let mut op = Op::Union;
    loop {
        steps.push((op, native_operand(rest, end, depth)?));
        op = match rest.first() {
            Some(Token::Mark { mark: ',', .. }) => Op::Union,
            Some(Token::Mark { mark: '!', .. }) => Op::Difference,
            Some(Token::Mark { mark: '&', .. }) => Op::Intersection,
            Some(Token::Mark { mark: '^', .. }) => Op::Xor,
            Some(Token::Mark { mark: ')', .. }) | None => return Ok(Expr { is_ansible: false, steps }),
            Some(other) => {
                return Err(Syntax::new(other.column(), "expected an operator: \",\", \"!\", \"&\" or \"^\""));
            }
        };
        advance(rest);
    }
}

fn native_operand(rest: &mut &[Token], end: usize, depth: usize) -> Result<Operand, Syntax> {
    let wanted = "expected a host, a group or a pattern";
    let Some(token) = rest.first() else { return Err(Syntax::new(end, wanted)) };
    advance(rest);
    match token {
        Token::Term(term) => Ok(Operand::Term(term.clone())),
        Token::Mark { mark: '(', column } => {
            if depth == 0 {
                return Err(Syntax::new(*column, format!("more than {MAX_DEPTH} parentheses")));
            }
            let inner = native(rest, end, depth - 1)?;
            match rest.first() {
                Some(_) => advance(rest),
                None => return Err(Syntax::new(end, "expected \")\"")),
            }
            Ok(Operand::Parens(inner))
        }
        Token::Mark { mark: '!', column } => {
            Err(Syntax::new(*column, format!("{wanted} before \"!\" (every host but some: *!NAME)")))
        }
        Token::Mark { column, .. } => Err(Syntax::new(*column, wanted)),
    }
}

fn advance(rest: &mut &[Token]) {
    *rest = rest.split_first().map_or(&[], |(_, after)| after);
}

/// Ansible's patterns: items separated by `:` or `,`, each with an optional `!` or `&`.
struct Ansible<'n> {
    is_name: &'n dyn Fn(&str) -> bool,
    items: Vec<(Op, Operand)>,
}

impl Ansible<'_> {
    fn parse(mut self, tokens: &[Token]) -> Result<Expr, Syntax> {
        let mixed = |what: &str| {
            format!("{what} is ClusterShell's, and \":&\", \":!\", \",&\" and \",!\" are Ansible's: use one")
        };
        // The sign of the item to come; none right after an item.
        let mut sign = Some(Op::Union);
        let mut end = 1;
        for token in tokens {
            let column = token.column();
            match token {
                Token::Mark { mark: ',', .. } => match sign.replace(Op::Union) {
                    None => {}
                    Some(_) => return Err(Syntax::new(column, "expected a host, a group or a pattern")),
                },
                Token::Mark { mark: mark @ ('!' | '&'), .. } => match sign {
                    Some(Op::Union) if *mark == '!' => sign = Some(Op::Difference),
                    Some(Op::Union) => sign = Some(Op::Intersection),
                    Some(_) => return Err(Syntax::new(column, "expected a host, a group or a pattern")),
                    None => return Err(Syntax::new(column, mixed(&format!("\"{mark}\" right after a name")))),
                },
                Token::Mark { mark, .. } => return Err(Syntax::new(column, mixed(&format!("\"{mark}\"")))),
                Token::Term(term) => {
                    let first = sign.take().unwrap_or(Op::Union);
                    sign = self.word(term, first)?.then_some(Op::Union);
                }
            }
            end = column + 1;
        }
        match sign {
            Some(_) => Err(Syntax::new(end, "expected a host, a group or a pattern")),
            None => Ok(self.finish()),
        }
    }

    /// Takes a word apart at its colons; tells whether it ended with one.
    fn word(&mut self, term: &Term, first: Op) -> Result<bool, Syntax> {
        let mut items: Vec<Term> = Vec::new();
        let mut column = term.column;
        let mut ends_open = false;
        for part in split_colons(&term.text) {
            ends_open = part.is_empty();
            let is_port = !ends_open && part.bytes().all(|byte| byte.is_ascii_digit()) && !(self.is_name)(part);
            match items.last_mut() {
                Some(last) if is_port => {
                    last.text.push(':');
                    last.text.push_str(part);
                }
                _ => items.push(Term { text: part.to_owned(), column }),
            }
            column += part.chars().count() + 1;
        }
        if ends_open {
            items.pop();
        }
        if let Some(empty) = items.iter().find(|item| item.text.is_empty()) {
            return Err(Syntax::new(empty.column, "expected a host, a group or a pattern"));
        }
        let signs = std::iter::once(first).chain(std::iter::repeat(Op::Union));
        self.items.extend(signs.zip(items.into_iter().map(Operand::Term)));
        Ok(ends_open)
    }

    /// Puts unions first, then intersections, then exclusions; without a union it starts from every host.
    fn finish(self) -> Expr {
        let mut steps = Vec::new();
        for op in [Op::Union, Op::Intersection, Op::Difference] {
            steps.extend(self.items.iter().filter(|(of, _)| *of == op).cloned());
            if steps.is_empty() {
                steps.push((Op::Union, Operand::All));
            }
        }
        Expr { is_ansible: true, steps }
    }
}

/// Splits at colons outside brackets; a regular expression is kept whole.
fn split_colons(text: &str) -> Vec<&str> {
    if text.starts_with('~') {
        return match text.strip_suffix(':') {
            Some(regex) => vec![regex, ""],
            None => vec![text],
        };
    }
    let mut depth = 0_usize;
    // The colon of `@file:` separates nothing.
    let mut is_prefix = text.starts_with(FILE_PREFIX);
    text.split(|c| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ':' && depth == 0 && !std::mem::take(&mut is_prefix)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(expr: &Expr) -> String {
        let mut text = String::new();
        for (op, operand) in &expr.steps {
            text.push(match op {
                Op::Union => '+',
                Op::Difference => '-',
                Op::Intersection => '&',
                Op::Xor => '^',
            });
            match operand {
                Operand::Term(term) => text.push_str(&term.text),
                Operand::Parens(inner) => text.push_str(&format!("({})", show(inner))),
                Operand::All => text.push_str("ALL"),
            }
        }
        text
    }

    fn read(text: &str) -> Result<String, Syntax> {
        parse(text, &|name| name == "80").map(|expr| show(&expr))
    }

    #[test]
    fn clustershell_reads_left_to_right() {
        for (text, steps) in [
            ("a", "+a"),
            ("a,b!c&d^e", "+a+b-c&d^e"),
            (" a , b ! c ", "+a+b-c"),
            ("a[1-3,5]!a2", "+a[1-3,5]-a2"),
            ("a!(b,c)&d", "+a-(+b+c)&d"),
            ("@web,~/a,b!(c|d)/!x*", "+@web+~/a,b!(c|d)/-x*"),
            (r"~/a\/b\.c/", r"+~/a/b\.c/"),
            ("[::1]:22,u@[fe80::1%e]:22", "+[::1]:22+u@[fe80::1%e]:22"),
            ("a:22,b", "+a:22+b"),
            ("@file:~/web.txt!-,vars.role=front*", "+@file:~/web.txt--+vars.role=front*"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(steps), "{text}");
        }
    }

    #[test]
    fn ansible_unites_then_intersects_then_excludes() {
        for (text, steps) in [
            ("web:!db", "+web-db"),
            ("web:!db:&prod:app", "+web+app&prod-db"),
            ("web,!db,&prod,app", "+web+app&prod-db"),
            ("!db:&web", "+ALL&web-db"),
            ("!a,!b", "+ALL-a-b"),
            ("10.0.0.1:22:!10.0.0.2:2222", "+10.0.0.1:22-10.0.0.2:2222"),
            ("web:80:!x", "+web+80-x"),
            ("[::1]:22:!web[1-2,4]", "+[::1]:22-web[1-2,4]"),
            ("~/a:b/:!c", "+~/a:b/-c"),
            ("a , !b", "+a-b"),
            ("a:~/b:(c|d)/:e:!f", "+a+~/b:(c|d)/+e-f"),
            ("@file:web.txt:&b:!@file:~/x", "+@file:web.txt&b-@file:~/x"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(steps), "{text}");
        }
    }

    #[test]
    fn the_words_of_a_line_are_united() {
        for (line, steps) in [
            ("a b", "+a+b"),
            ("a  b[1-3], c", "+a+b[1-3]+c"),
            ("a ! b c", "+a-b+c"),
            ("(a b)&b (c)", "+(+a+b)&b+(+c)"),
            ("~/a b/ c", "+~/a b/+c"),
        ] {
            assert_eq!(parse_line(line, &|_| false).map(|expr| show(&expr)).as_deref(), Ok(steps), "{line}");
        }
        assert_eq!(parse_line("a !", &|_| false).unwrap_err().column, 4);
    }

    #[test]
    fn what_is_wrong_has_a_column() {
        let wanted = "expected a host, a group or a pattern";
        for (text, column, message) in [
            ("", 1, wanted),
            ("a,", 3, wanted),
            ("a,,b", 3, wanted),
            ("a b", 3, "expected an operator: \",\", \"!\", \"&\" or \"^\""),
            ("a:~/b/", 3, "expected an operator: \",\", \"!\", \"&\" or \"^\""),
            ("a(b)", 2, "expected an operator: \",\", \"!\", \"&\" or \"^\""),
            ("!a", 1, "expected a host, a group or a pattern before \"!\" (every host but some: *!NAME)"),
            ("(a", 3, "expected \")\""),
            ("a)", 2, "\")\" without \"(\""),
            ("~a", 2, "expected \"/\": a regular expression is written ~/…/"),
            ("~/a", 4, "expected \"/\" at the end of the regular expression"),
            ("a:!b:", 5, wanted),
            ("a::!b", 3, wanted),
            ("a:!", 4, wanted),
            ("a,!b,", 6, wanted),
            ("a:!!b", 4, wanted),
            (
                "a:!b&c",
                5,
                "\"&\" right after a name is ClusterShell's, and \":&\", \":!\", \",&\" and \",!\" are Ansible's: use one",
            ),
            ("a:!b^c", 5, "\"^\" is ClusterShell's, and \":&\", \":!\", \",&\" and \",!\" are Ansible's: use one"),
        ] {
            assert_eq!(read(text), Err(Syntax::new(column, message)), "{text}");
        }
        assert!(read(&"(".repeat(100_000)).is_err());
    }

    #[test]
    fn an_error_points_at_the_place() {
        let syntax = read("wéb,,db").unwrap_err();
        assert_eq!(
            error("wéb,,db", &syntax).to_string(),
            "bad selection: expected a host, a group or a pattern at column 5\n  wéb,,db\n      ^"
        );
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parser_fail_badly(text in r"[ab1:,!&^()\[\]~/\\ @*-]{0,24}") {
            if let Err(syntax) = read(&text) {
                prop_assert!((1..=text.chars().count() + 1).contains(&syntax.column), "{syntax:?}");
            }
        }
    }
}
