"""What no recipe trains on: anything that real-v1 or the demo shows, by hash and by name."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from hsnet_trt.benchmarks.real_v1.photographs import photographs
from hsnet_trt.errors import InputError

# Class of real-v1 -> words (regular expressions) by which other sources name the same thing.
WORDS = {
    "car": "cars? indycar sportscar automobile suv sport utility taxi sedan beetle pickup jeep",
    "castle": "castle castillo carcassonne chateau burg schloss palace chenonceau neuschwanstein"
    " chambord schwerin",
    "cat": "cats? blackcat kittens? kitty chelsea",
    "chair": "chairs? wheelchair seat armchair",
    "chameleon": "chameleon chamaeleon lizard",
    "cheetah": "cheetah leopard jaguar",
    "christ-the-redeemer": "christ",
    "cup": "cups? teacup mug coffee beverage buffetset saucer",
    "dog": "dogs? puppy poodle dingo",
    "eiffel-tower": "eiffel tokyo",
    "fish": "fish(es)? fishing carp lionfish blowfish bluegroper butterflyfish clownfish coraltrout"
    " dolphinfish moonwrasse stripedfish goldfish",
    "giraffe": "giraffes?",
    "hammer": "hammers? mallet gavel pick",
    "measuring-tape": "measuring measure tape ruler",
    "multimeter": "multimeter",
    "opera-house": "opera",
    "pliers": "pliers? plyers pincers cutter cutting",
    "pyramid": "pyramids? chichen musee louvre",
    "qutub-minar": "minar minaret qutub kutub",
    "scissors": "scissors",
    "screwdriver": "screwdrivers? screw",
    "solar-panel": "solar",
    "statue-of-liberty": "liberty",
    "taj-mahal": "taj",
    "toy-block": "alphabets numbers blocks?",
    "tweezers": "tweezers?",
    "windmill": "windmills? mill turbine wind",
    "wrench": "wrench(es)? spanner",
}
# What else the demo shows, and what people have judged earlier models on.
_DEMO = "motorcycles? motorbike motor rushmore colosseum brandenburg"
_JUDGED = re.compile(
    rf"\b(?:{'|'.join(word for words in (*WORDS.values(), _DEMO) for word in words.split())})\b"
)


def shows_judged(name: str) -> bool:
    """Whether the name of a picture or a class matches something that models are judged on.

    `name`: words separated by hyphens, underscores, blanks, dots, digits or capitals.
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return _JUDGED.search(re.sub(r"[\W_\d]+", " ", apart).lower()) is not None


def check_left_out(root: Path) -> None:
    """Check every file below a folder of training pictures.

    Raises:
        InputError: one of them is a photograph of real-v1.
    """
    judged = {photograph.sha256: photograph for photograph in photographs()}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            found = judged.get(hashlib.sha256(path.read_bytes()).hexdigest())
            if found is not None:
                raise InputError(
                    f"{path} is what models are judged by: {found.kind}/{found.name} of real-v1",
                    fix="leave it out",
                )
