"""What captions say that is not of the image: scale bars, licences, credits, a page's own words.

Patterns of Java's, for plain text with single blanks. A sentence that begins with such words goes
as a whole; one that ends with them ("..., reproduced with permission from Elsevier") loses its end.
"""

from __future__ import annotations

_UNIT = r"(?:[nμu]m|mm|cm|m|Å|mi(?:cron|crometer|crometre|llimeter|llimetre)s?"
_UNIT += r"|(?:nano|centi)met(?:er|re)s?|pixels?|px|inch(?:es)?)(?!\w)"
_LENGTH = rf"\d{{1,6}}(?:[.,]\d{{1,3}})? ?{_UNIT}"
_IS = r"(?: ?[=:,;\u2013-]| is| are| ?represents?| indicates?| denotes?"
_IS += r"| corresponds? to| equals?| of)"
_FOR = r"(?: (?:in|for|on) [^.,;()=]{1,40}| ?\([^()]{1,60}\))"
_AND = rf"(?: ?(?:,|;|and|&|, and)? ?(?:{_LENGTH}|\([^()]{{1,40}}\))(?:{_FOR})?+)*+"
SCALE_BAR = (
    r"(?i) ?\(?(?<![\w-])(?:(?:the |white |black |yellow )*+(?:scale[ -]?bars?|scale|bars?)"
    rf"(?:{_FOR})?+)(?:{_IS}){{1,3}}+(?: length)? ?{_LENGTH}(?:{_FOR})?+{_AND}"
    r"(?: (?:in|for) (?:all|each|both)[^.;,()]{0,30})?+(?: respectively)?+ ?[)\]]?[.;,]?"
)

# To the end of the sentence. A full stop after an initial or an abbreviation does not end it.
_ABBREVIATED = (
    r"(?<=\b(?:[A-Z]|Dr|Prof|Mr|Mrs|Ms|St|Inc|Ltd|Co|Corp|al|et|No|Vol|pp|Dept|Univ|Fig|Ann|Int"
    r"|Am|Br|Eur|Clin|Res|Sci|Biol|Med|Surg|Radiol|Acad|Natl|Proc|Nat|Rev|Ref|ref))\.(?= )"
)
_TO_END = rf"(?:[^.!?\[\]()]++|[(\[][^()\[\]]*+[)\]]|[.!?](?![ )\]]|$)|{_ABBREVIATED})*+"
_AT_START = r"(?:^|(?<=[.;!?)\]…])) {0,3}"
_PICTURE = r"(?:figure|image|picture|photo(?:graph)?|illustration|drawing|material|table|panel"
_PICTURE += r"|content|micrograph|slide|fig\.?)s?"
_THIS = rf"(?:(?:this|these|the|all) )?{_PICTURE}"
_VERB = r"(?:re(?:produced|printed|published|used|drawn)|adapted|modified|used|taken|published)"
_PERMISSION = (
    rf"(?:{_THIS} (?:(?:is|are|was|were|has been|have been) )?)?"
    rf"{_VERB}\b[^.!?]{{0,120}}?\bpermissions?\b"
    r"|with(?: \w+){0,3}? permission (?:from|of|by)\b"
)
_STARTS = "|".join(
    (
        rf"(?:{_THIS} (?:is |are |was |were )?)?{_VERB}(?: and \w+)? from\b",
        r"© ?(?=\w)|\(c\) ?(?=(?:19|20)\d\d)|copyright\b|(?:all )?rights reserved|doi ?:",
        r"this is an open[ -]access|open[ -]access article",
        rf"(?:this|the) (?:work|article|file|{_PICTURE}) (?:is|was) (?:licen[sc]ed|distributed)",
        r"(?:licen[sc]ed|distributed|published|released|available) under (?:a|an|the|cc|terms)\b",
        r"(?:under (?:a|the) )?creative commons|cc[ -]by\b|cc0\b|public domain\b|licen[cs]e ?:",
        r"permissions? (?:was|were|is|has been|obtained|granted)\b|published by ",
        rf"(?:{_PICTURE} )?(?:credits?|sources?|attribution|photographer) ?:",
        rf"{_PICTURE} (?:credits?|courtesy)\b|courtesy(?: of| by| ?:)",
        rf"{_PICTURE} (?:kindly )?(?:provided|contributed|supplied) by\b",
        rf"{_THIS} (?:appears?|is available|are available|is (?:shown|reproduced)|is presented|can"
        r" be (?:viewed|seen|found)) (?:in )?(?:full )?(?:colou?rs?|online)\b",
        r"(?:for )?(?:an?|the) (?:full[ -])?colou?r (?:version|image|figure|reproduction)s? ",
        rf"colou?r (?:version|online|{_PICTURE} (?:is |are )?(?:can|available|online))",
        r"\(?colou?r (?:online|figure available)",
        r"for (?:the )?interpretation of (?:the )?(?:references|colou?rs?)",
        r"(?:please )?(?:see|refer to) (?:the )?(?:online|web|electronic|main text|text for)\b",
        r"(?:the )?(?:online|web|electronic) version (?:of|contains|is)\b",
        r"(?:click|tap) (?:here|on|to) |open in (?:a )?new (?:tab|window)|view (?:larger|full)\b",
        r"download (?:figure|image|powerpoint|slide|full|original)|full[ -]size image",
        r"supplement(?:ary|al) (?:data|material|information)\b[^.]{0,60}\b(?:available|online)\b",
        r"lorem ipsum",
    )
)
_ENDS = (
    rf"{_VERB}\b[^.!?()]{{0,120}}?\bpermissions?\b|with(?: \w+){{0,3}}? permission (?:from|of|by)\b"
    r"|courtesy of\b|© ?(?=\w)|(?:copyright|licen[sc]ed) (?:by|under)\b"
)
_CLOSE = r"[.!?]?"

BOILERPLATE = (
    rf"(?i) ?[(\[] ?(?:{_PERMISSION}|{_STARTS}|{_ENDS}){_TO_END}{_CLOSE}[)\]]?",
    rf"(?i){_AT_START}(?:{_PERMISSION}|{_STARTS}){_TO_END}{_CLOSE}",
    rf"(?i)[,;\u2013—-]? (?:{_ENDS}){_TO_END}",
)
"""Each to be replaced by a blank, in this order: in brackets, a sentence, the end of a sentence."""
