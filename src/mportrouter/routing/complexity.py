"""
How hard a task is, from 1 to 10, guessed from the words of the person's last turn.

A guess by vocabulary, quick enough for every request: the first verb in command position sets a base (list, rename,
translate: low; debug, implement: middle; design, refactor, prove: high), later verbs, hard subjects, length and code
move it. What it cannot know it puts in the middle. English, Spanish, German, French and Chinese.
"""

from __future__ import annotations

import re

import attrs

#: Characters that are looked at from the start and the end of a text; the task stands at one of them.
_HEAD, _TAIL = 2048, 768


@attrs.frozen
class Score:
    """
    :param value: 1 (trivial) to 10 (as hard as it gets).
    :param reasons: what it rests on, the weightiest first.
    """

    value: int
    reasons: tuple[str, ...] = ()


@attrs.frozen
class RoutingFeatures:
    """
    What the score looks at.

    :param text: the last turn of the person, ``""`` where there is none.
    :param tool_count: tools that the request offers.
    :param message_count: messages of the conversation.
    :param size: bytes of the request.
    """

    text: str
    tool_count: int = 0
    message_count: int = 1
    size: int = 0


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _table(**classes: str) -> dict[str, int]:
    levels = {"easy": 2, "middle": 5, "hard": 8}
    return {word: levels[name] for name, words in classes.items() for word in words.split()}


#: What is asked for. Bases: 2, 5, 8.
_INTENTS = _table(
    easy="""
        list lists listing show print rename format reformat translate summarize summarise summary convert capitalize
        uppercase lowercase sort count copy paste lint indent docstring docstrings typo typos spell spelling proofread
        paraphrase shorten define echo say repeat greet thanks thank hello hi hey bump commit stub boilerplate comment
        extract lookup ping remove delete
        lista listar muestra renombra renombrar formatea traduce traducir resume resumir convierte ordena cuenta hola
        gracias
        liste zeige benenne formatiere übersetze übersetzen zusammenfassen fasse konvertiere sortiere zähle hallo danke
        montre affiche renomme renommer formate traduis traduire traduisez résume résumer convertis trie compte bonjour
        merci""",
    middle="""
        debug debugging fix fixing implement implementing integrate integrating review investigate troubleshoot diagnose
        analyze analyse analyzing analysing compare explain add extend improve build create develop update port
        optimize optimise speed parse validate configure deploy test profile
        depura depurar corrige corregir arregla implementa implementar integra revisa revisar investiga analiza analizar
        compara explica explicar añade agrega mejora optimiza crea crear
        debugge behebe beheben repariere implementiere implementieren integriere überprüfe untersuche analysiere
        analysieren vergleiche erkläre ergänze verbessere optimiere erstelle baue
        débogue déboguer corrigez corriger répare implémente implémenter intègre vérifie analyser explique
        expliquer ajoute améliore optimise crée créer""",
    hard="""
        design designing architect architecting refactor refactoring rearchitect redesign rewrite prove derive plan
        migrate migrating formalize formalise audit reverse-engineer parallelize
        diseña diseñar refactoriza refactorizar demuestra demostrar migra migrar planifica
        entwirf entwerfe entwerfen konzipiere refaktoriere refaktorisiere beweise beweisen migriere plane
        conçois concevoir concevez refactorise refactoriser démontre démontrer prouve prouver migre migrer planifie""",
)
#: Verbs that say little by themselves; what is to be written decides.
_NEUTRAL = _words(
    """write make generate give tell do get escribe genera haz dame schreibe schreib mach gib écris fais donne génère"""
)
#: Words after which a verb is a command.
_OPENERS = _words(
    """and then also please to you me let let's lets we i now just first finally could can would should help by
    y luego por favor und dann bitte mir uns et puis ensuite moi nous plaît"""
)
#: Punctuation to what the split into words sees: "." between clauses (":" apart), a blank for quotes and brackets.
_MARKS = str.maketrans({**dict.fromkeys("!?;,\n*。，；！？、", "."), **dict.fromkeys('()[]{}<>"`|', " "), ":": ":"})
_STOPS = frozenset(".:-")

#: Subjects that make a task harder.
_SUBJECTS = _words(
    """
    architecture architectural architektur arquitectura distributed verteiltes verteilte distribuido distribuida
    distribué distribuée microservice microservices concurrency concurrent nebenläufigkeit concurrencia multithreaded
    thread-safe lock-free deadlock deadlocks scalability scalable skalierbar skalierbare escalable evolutivo consensus
    raft paxos compiler kernel cryptography cryptographic theorem theorems proof induction invariant invariants
    vulnerability vulnerabilities threat exploit sharding replication consistency sharded
    idempotent transactional algorithm algorithms np-hard complexity heuristics neural gradient bayesian optimal
    tradeoff tradeoffs trade-off trade-offs multi-tenant zero-downtime fault-tolerant failover race leak bottleneck
    seguridad sicherheit sécurité security throughput latency petabyte millions
    """
)
#: Sequences of words that say more than their parts: subject to points.
_PHRASES = (
    ("unit test", -3, "unit tests"),
    ("boilerplate", -1, "boilerplate"),
    ("hello world", -2, "hello world"),
    ("regex", -1, "regex"),
    ("changelog", -2, "changelog"),
    ("commit message", -3, "commit message"),
    ("readme", -1, "readme"),
    ("one line", -1, "one line"),
    ("from scratch", 1, "from scratch"),
    ("entire codebase", 2, "whole code base"),
    ("whole codebase", 2, "whole code base"),
    ("whole code base", 2, "whole code base"),
    ("root cause", 1, "root cause"),
    ("memory leak", 1, "memory leak"),
    ("race condition", 1, "race condition"),
    ("step by step", 1, "step by step"),
    ("pruebas unitarias", -3, "unit tests"),
    ("tests unitaires", -3, "unit tests"),
    ("de zéro", 1, "from scratch"),
    ("desde cero", 1, "from scratch"),
    ("von grund auf", 1, "from scratch"),
)
_CHINESE = {
    2: ("翻译", "重命名", "格式化", "列出", "总结", "转换", "排序", "你好", "谢谢", "单元测试", "注释"),
    5: ("调试", "修复", "实现", "解释", "分析", "比较", "添加", "优化", "检查", "集成"),
    8: ("设计", "架构", "重构", "证明", "推导", "迁移", "规划"),
}
_CHINESE_SUBJECTS = ("分布式", "并发", "死锁", "可扩展", "高可用", "安全", "架构", "算法", "定理", "微服务")

_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_TRACES = ("Traceback (most recent", "Error:", "Exception:", "Exception in", "panicked at", "egmentation fault")
_ITEM = re.compile(r"^\s{0,8}(?:[-*•]|\d{1,2}[.)])\s", re.MULTILINE)
_HAN = re.compile(r"[\u4e00-\u9fff]")


def score(features: RoutingFeatures | str) -> Score:
    """
    The complexity of a turn. Pure: the same turn scores the same.

    :param features: the turn, or only its text.
    """
    if isinstance(features, str):
        features = RoutingFeatures(features)
    text = features.text
    whole = len(text)
    if whole > _HEAD + _TAIL:
        text = f"{text[:_HEAD]}\n{text[-_TAIL:]}"
    if not text or text.isspace():
        return Score(4, ("no text to judge",))
    blocks = text.count("```") // 2
    prose = _FENCE.sub("\n", text) if blocks or "```" in text else text
    lowered = prose.lower()
    tokens = lowered.translate(_MARKS).replace(".", " . ").replace(":", " : ").split()
    words = set(tokens)
    count = len(tokens)
    reasons: list[str] = []
    base = _base(tokens, lowered, words, reasons)
    moves = _subjects(base, lowered, words, reasons) + _shape(base, text, prose, whole, blocks, count, reasons)
    if base >= 4 and features.message_count > 60:
        moves += 1
        reasons.append("long conversation")
    return Score(min(max(round(base + moves), 1), 10), tuple(reasons))


def _base(tokens: list[str], lowered: str, words: set[str], reasons: list[str]) -> float:
    """The base from what is asked for."""
    found: list[tuple[int, str]] = []
    mentioned: list[tuple[int, str]] = []
    for place in [place for place, token in enumerate(tokens) if token in _INTENTS]:
        word = tokens[place]
        before = tokens[place - 1] if place else "."
        if before == ":" and found and found[0][0] < 5:
            break  # "translate this: design a …": what follows is the material, not a task
        commands = before in _STOPS or before in _OPENERS or before.endswith("ly")
        (found if commands else mentioned).append((_INTENTS[word], word))
    if not lowered.isascii() and _HAN.search(lowered):
        for level, terms in _CHINESE.items():
            found += [(level, term) for term in terms if term in lowered]
    if found:
        first = found[0]
        hardest = max(found)
        # The first command is the task; a harder one beside it is as much asked for.
        level, word = hardest if hardest[0] > first[0] else first
        reasons.append(word)
        return level
    if mentioned:
        level, word = max(mentioned)
        reasons.append(f"mentions {word}")
        return (level + 4) / 2
    if not _NEUTRAL.isdisjoint(tokens[:6]):
        reasons.append("writing")
        return 4
    if len(tokens) <= 14:
        reasons.append("short question" if lowered.rstrip().endswith(("?", "？")) else "short text")
        return 2
    reasons.append("plain text")
    return 4


def _subjects(base: float, lowered: str, words: set[str], reasons: list[str]) -> float:
    """Points for what it is about."""
    hard = _SUBJECTS & words
    count = len(hard) + sum(term in lowered for term in _CHINESE_SUBJECTS)
    points = 0.0
    if count:
        reasons.append(f"about {min(hard)}" if hard else "hard subject")
        # An easy task about a hard subject is still easy, a little less so.
        points = min(count, 3) if base > 3 else min(count - 1, 2) * 0.5
    for phrase, move, name in _PHRASES:
        if phrase in lowered:
            if move < 0 and base >= 8:
                continue
            points += move
            reasons.append(name)
    return points


def _shape(base: float, text: str, prose: str, whole: int, blocks: int, word_count: int, reasons: list[str]) -> float:
    """Points for length, lists of demands, code and traces."""
    points = 0.0
    if base >= 8 and word_count <= 3 and not reasons[1:]:
        points -= 1
    if whole > 6000:
        points += 2
        reasons.append("very long text")
    elif word_count > 150:
        points += 1
        reasons.append("long text")
    if base > 3:
        if len(_ITEM.findall(prose)) >= 4:
            points += 1
            reasons.append("list of demands")
        if blocks >= 2:
            points += 1
            reasons.append("several code blocks")
    elif any(trace in text for trace in _TRACES):
        points += 2
        reasons.append("error trace")
    return points
