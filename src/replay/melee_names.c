/* melee_names.c — names of characters (by the id with which they are chosen) and stages. */
#include "zamba_replay.h"

static const char *const characters[] = {
    "Captain Falcon", "Donkey Kong", "Fox",          "Mr. Game & Watch",
    "Kirby",          "Bowser",      "Link",         "Luigi",
    "Mario",          "Marth",       "Mewtwo",       "Ness",
    "Peach",          "Pikachu",     "Ice Climbers", "Jigglypuff",
    "Samus",          "Yoshi",       "Zelda",        "Sheik",
    "Falco",          "Young Link",  "Dr. Mario",    "Roy",
    "Pichu",          "Ganondorf",   "Master Hand",  "Wire Frame (m)",
    "Wire Frame (f)", "Giga Bowser", "Crazy Hand",   "Sandbag",
    "Popo",
};

static const char *const stages[] = {
    [2] = "Fountain of Dreams",
    [3] = "Pokémon Stadium",
    [4] = "Princess Peach's Castle",
    [5] = "Kongo Jungle",
    [6] = "Brinstar",
    [7] = "Corneria",
    [8] = "Yoshi's Story",
    [9] = "Onett",
    [10] = "Mute City",
    [11] = "Rainbow Cruise",
    [12] = "Jungle Japes",
    [13] = "Great Bay",
    [14] = "Hyrule Temple",
    [15] = "Brinstar Depths",
    [16] = "Yoshi's Island",
    [17] = "Green Greens",
    [18] = "Fourside",
    [19] = "Mushroom Kingdom I",
    [20] = "Mushroom Kingdom II",
    [22] = "Venom",
    [23] = "Poké Floats",
    [24] = "Big Blue",
    [25] = "Icicle Mountain",
    [27] = "Flat Zone",
    [28] = "Dream Land N64",
    [29] = "Yoshi's Island N64",
    [30] = "Kongo Jungle N64",
    [31] = "Battlefield",
    [32] = "Final Destination",
};

static const char *name_of(const char *const *names, size_t n, int32_t id)
{
    return id >= 0 && (size_t)id < n && names[id] ? names[id] : "?";
}

const char *zamba_replay_character_name(int32_t character)
{
    return name_of(characters, sizeof characters / sizeof *characters, character);
}

const char *zamba_replay_stage_name(int32_t stage)
{
    return name_of(stages, sizeof stages / sizeof *stages, stage);
}
