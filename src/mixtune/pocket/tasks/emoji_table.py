"""The emoji the tasks use, by what they show, and the one split into training and test emoji that every
task and caption keeps.
"""

from __future__ import annotations

import hashlib
import unicodedata
from functools import cache

TEST_SHARE = 0.3

# Our own grouping (Unicode's groups mix, say, tools with clothes); names come from Python's Unicode database.
CATEGORIES: dict[str, str] = {
    "animal": (
        "🐀🐁🐂🐃🐄🐅🐆🐇🐈🐊🐋🐌🐍🐎🐏🐐🐑🐒🐓🐔🐕🐖🐗🐘🐙🐛🐜🐝🐞🐟🐠🐡🐢🐣🐤🐥🐦🐧🐨🐩🐪🐫🐬🐭🐮🐯🐰🐱🐳🐴"
        "🐵🐶🐷🐸🐹🐺🐻🐼🐿🦀🦁🦂🦃🦄🦅🦆🦇🦈🦉🦊🦋🦌🦍🦎🦏🦐🦑🦒🦓🦔🦕🦖🦗🦘🦙🦚🦛🦜🦝🦞🦟🦡🦢🦣🦤🦥🦦🦧🦨🦩"
        "🦫🦬🦭🕷🕊🪰🪱🪲🪳"
    ),
    "food": (
        "🍅🍆🍇🍈🍉🍊🍋🍌🍍🍎🍏🍐🍑🍒🍓🍔🍕🍖🍗🍘🍙🍚🍛🍜🍝🍞🍟🍠🍡🍢🍣🍤🍥🍦🍧🍨🍩🍪🍫🍬🍭🍮🍯🍰🍲🍳🌭🌮🌯🌽"
        "🌶🥐🥑🥒🥓🥔🥕🥖🥗🥙🥚🥜🥝🥞🥟🥠🥡🥣🥥🥦🥧🥨🥩🥪🥬🥭🥯🧀🧁🧄🧅🧆🧇🥘🥮🫐🫑🫒🫔🎂"
    ),
    "face": (
        "😀😁😂😃😄😅😆😇😈😉😊😋😌😍😎😏😐😑😒😓😔😕😖😗😘😙😚😛😜😝😞😟😠😡😢😣😤😥😦😧😨😩😪😫😬😭😮😯😰😱"
        "😲😳😴😵😶😷🙁🙂🙃🙄🤐🤑🤒🤓🤔🤕🤠🤡🤢🤣🤤🤥🤧🤨🤩🤪🤬🤮🤯🥰🥱🥳🥴🥵🥶🥺🧐"
    ),
    "vehicle": "🚀🚁🚂🚃🚄🚅🚆🚇🚈🚊🚋🚌🚍🚎🚐🚑🚒🚓🚔🚕🚖🚗🚘🚙🚚🚛🚜🚝🚞🚟🚠🚡🚢🚤🚲🛴🛵🛶🛸🛹🛺🛻🏍🏎✈⛵⛴🛥🛩",
    "plant": "🌱🌲🌳🌴🌵🌷🌸🌹🌺🌻🌼💐🌾🌿☘🍀🍁🍂🍃🪴🥀🎋🏵",
    "clothing": "👒👓👔👕👖👗👘👙👚👛👜👝👞👟👠👡👢👑🎩🎓🧢🧣🧤🧥🧦🥻🩱🩲🩳🥼🦺🕶🎒🥾🥿🩰⛑🩴🪖",
    "building": "🏠🏡🏢🏣🏤🏥🏦🏨🏩🏪🏫🏬🏭🏯🏰⛪🕌🕍🛕🏛🗼🏟🏚🛖⛩🕋🏗💒⛺",
    "tool": "🔨🔧🔩🪓🪚🪛⛏⚒🛠🔪🪝🪜🧰🧲⚙🗜🪠🧹🪣🪒✂🔑🗝🔦🧯🪤🧪🔬",
    "sport": "⚽⚾🏀🏐🏈🏉🎾🥎🥏🎳🏏🏑🏒🥍🏓🏸🥊⛳⛸🎣🎿🛷🥌🎯🎱🥅🏹",
    "music": "🎷🎸🎹🎺🎻🥁🪕🪗🪘🎤🎧🎼🎶🎵🎚🎛📯",
    "weather": "☀🌤🌥🌦🌧🌨🌩🌪🌫☁⛅⛈❄☃⛄🌈⚡☂☔🌂",
    "device": "📱☎📞📟📠🔋🔌💻🖥🖨⌨🖱💽💾💿📀📷📹🎥📺📻⌚🕹📸🔭📡",
}
SEEN_CATEGORIES: tuple[str, ...] = ("animal", "food", "face", "vehicle", "plant", "clothing", "building", "tool")
NEW_CATEGORIES: tuple[str, ...] = ("sport", "music", "weather", "device")
# Only captions show these: they widen the pictures on which the projector is aligned.
OBJECTS = (
    "📚📖✏📏📐📌📎📦📮📰📅🎁🎈🎉🎀🎃🎄🏆🏅🔥💧💎💡🔔🔒🔍🕯🛁🚽🛏🛋🚪🪑🧸🪁🎨🎭🎬🍴🍽🥄🏺🍺🍷🍵🥛🧃👻👽🤖"
    "💀👀👂👃👅🦷🦴🧠⚓🗺🌍🌋🏔🏖🏝⛰💣🔫🏴🚩💰💳✉🗑"
)

FLAGS: dict[str, str] = {
    "Japan": "JP",
    "France": "FR",
    "Brazil": "BR",
    "Canada": "CA",
    "Germany": "DE",
    "Sweden": "SE",
    "Turkey": "TR",
    "China": "CN",
    "Greece": "GR",
    "India": "IN",
}
NEW_FLAGS: dict[str, str] = {
    "Italy": "IT",
    "Spain": "ES",
    "Finland": "FI",
    "Switzerland": "CH",
    "Israel": "IL",
    "Vietnam": "VN",
    "Argentina": "AR",
    "Jamaica": "JM",
    "Nepal": "NP",
    "Kenya": "KE",
}
CAPTION_FLAGS: dict[str, str] = {
    "Peru": "PE",
    "Chile": "CL",
    "Mexico": "MX",
    "Cuba": "CU",
    "Portugal": "PT",
    "Ireland": "IE",
    "Belgium": "BE",
    "Netherlands": "NL",
    "Denmark": "DK",
    "Norway": "NO",
    "Iceland": "IS",
    "Poland": "PL",
    "Austria": "AT",
    "Hungary": "HU",
    "Ukraine": "UA",
    "Russia": "RU",
    "Egypt": "EG",
    "Nigeria": "NG",
    "Ghana": "GH",
    "Ethiopia": "ET",
    "South Africa": "ZA",
    "Pakistan": "PK",
    "Bangladesh": "BD",
    "Thailand": "TH",
    "South Korea": "KR",
    "Australia": "AU",
    "United States": "US",
    "United Kingdom": "GB",
    "Colombia": "CO",
    "Czechia": "CZ",
}
# Emoji of unseen tasks; captions never show them.
COLOURED: dict[str, str] = {
    "red": "❤🔴🟥",
    "orange": "🧡🟠🟧",
    "yellow": "💛🟡🟨",
    "green": "💚🟢🟩",
    "blue": "💙🔵🟦",
    "purple": "💜🟣🟪",
    "brown": "🤎🟤🟫",
    "black": "🖤⚫⬛",
}
CLOCKS = "🕐🕑🕒🕓🕔🕕🕖🕗🕘🕙🕚🕛"
ARROWS: dict[str, str] = {"up": "⬆", "down": "⬇", "left": "⬅", "right": "➡"}


def emoji_name(char: str) -> str:
    """The emoji's name in lower case, without the 'black' or 'white' that in Unicode names only tells how
    it is filled.
    """
    name = unicodedata.name(char).lower()
    for prefix in ("black ", "white "):
        name = name.removeprefix(prefix)
    return name


@cache
def emoji_of(category: str, test: bool) -> tuple[str, ...]:
    """The category's test emoji (about 30 %, at least 4) or its training emoji, the same for every seed
    and every task.
    """
    ranked = sorted(
        CATEGORIES[category],
        key=lambda char: hashlib.sha256(f"mixtune emoji {ord(char):x}".encode()).digest(),
    )
    held_out = max(4, round(TEST_SHARE * len(ranked)))
    return tuple(ranked[:held_out] if test else ranked[held_out:])
