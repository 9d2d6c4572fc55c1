"""Names of languages and countries from English into another language, character by character. Data: pycountry."""

import random
from functools import partial
from gettext import GNUTranslations

import minigrad as mg
from examples.common import data_file, options, report, show
from examples.encoder_decoder._draw import draw_attention
from examples.encoder_decoder._model import END, EncoderDecoder
from examples.encoder_decoder._run import error_rates, step, write
from minigrad.train import Batches, Cosine, Trainer

DOMAINS = "iso3166-1", "iso3166-3", "iso639-3", "iso639-5"  # countries, former ones, languages, their families
UNKNOWN = 1  # the number of a character that training never shows


def read_names(language, longest):
    """(English, translated) names of at most so many characters, in groups of those with the same English words.

    Many a name is there twice, as "Tidaá Mixtec" and as "Mixtec, Tidaá"; the split keeps a group together.
    """
    names = {}
    for domain in DOMAINS:
        with data_file("pycountry", f"locales/{language}/LC_MESSAGES/{domain}.mo").open("rb") as file:
            names |= GNUTranslations(file)._catalog  # all that the file translates; gettext has no public name for it
    groups = {}
    for name, translated in sorted(names.items()):
        if name and max(len(name), len(translated)) <= longest:
            words = tuple(sorted(name.lower().replace(",", "").split()))
            groups.setdefault(words, []).append((name, translated))
    return list(groups.values())


def main():
    sizes = {"epochs": 5, "longest": 30, "hidden_size": 128, "batch_size": 32, "beam": 3}
    # small: short names into another script, where it takes less to be better than copying
    small = {"epochs": 2, "longest": 10, "hidden_size": 64, "language": "uk"}
    args = options(__doc__, cell="gru", language="fr", **sizes, small=small)
    groups = read_names(args.language, args.longest)
    random.Random(0).shuffle(groups)  # the same split whatever the seed
    parts = groups[:1000], groups[1000:1500], groups[1500:]
    test, held_out, train = ([pair for group in part for pair in group] for part in parts)
    characters = ["", "?", *sorted({character for pair in train for name in pair for character in name})]
    numbers = {character: number for number, character in enumerate(characters)}

    def coded(name):
        return [numbers.get(character, UNKNOWN) for character in name]

    def batches(pairs, size):
        return Batches([(coded(name), [*coded(translated), END]) for name, translated in pairs], size)

    model = EncoderDecoder(args.cell, len(characters), len(characters), 64, args.hidden_size)
    data = batches(train, args.batch_size)
    optimizer, schedule = mg.optimizer("adam", model.parameters(), lr=3e-3), Cosine(args.epochs * len(data))
    trainer = Trainer(model, optimizer, partial(step, longest=args.longest), clip_norm=1.0, schedule=schedule)
    trainer.fit(data, batches(held_out, 500), epochs=args.epochs, monitor="errors", restore_best=True)

    model.eval()
    found = write(model, batches(test, 250), args.longest, args.beam)
    written = ["".join(characters[c] for c in classes) for classes in found]
    changed = [i for i, (name, translated) in enumerate(test) if name != translated]
    rows = []
    for title, part in ("all", range(len(test))), ("those that change", changed):
        names, wanted = zip(*(test[i] for i in part), strict=True)
        for method, translated in ("copied", names), ("this model", [written[i] for i in part]):
            characters_wrong, names_wrong = error_rates(translated, wanted)
            rows.append((f"{title} ({len(part)})", method, characters_wrong, 100 - names_wrong))
    shown = [(title, method, f"{wrong:.2f} %", f"{exact:.2f} %") for title, method, wrong, exact in rows]
    show(f"{len(test)} held-out names", ["names", "", "wrong characters", "exact matches"], shown)
    samples = [(test[i][0], written[i], test[i][1]) for i in changed[:12]]
    show("samples", ["English", "this model", "pycountry"], samples)
    turned = [i for i in changed if test[i][0][0] != test[i][1][0]]  # often the words' order changes
    drawn = sorted(turned, key=lambda i: abs(len(test[i][0]) - 18))[:4]
    examples = [(test[i][0], coded(test[i][0]), written[i], found[i]) for i in drawn]
    draw_attention(model, examples, ("characters read", "characters written"), args.out / "attention.png")
    report(args.out, "character error rate in %", rows[1][2], rows[0][2], "copying the name", lower_is_better=True)


if __name__ == "__main__":
    main()
