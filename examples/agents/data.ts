/**
 * What the example agents know: five small sources of twelve facts each. Each fact is one sentence that stands alone
 * and was checked; figures that are still being measured are rounded and say so.
 */

export interface Source {
  readonly id: string;
  readonly title: string;
  readonly facts: readonly string[];
}

export const SOURCES: readonly Source[] = [
  {
    id: "sky",
    title: "The Sun and its family",
    facts: [
      "Light from the Sun takes about eight minutes and twenty seconds to reach the Earth.",
      "Venus turns so slowly that one of its rotations, about 243 days, takes longer than its year of 225 days.",
      "The Moon keeps nearly the same face towards the Earth because it turns once for each orbit.",
      "The Moon recedes from the Earth by about 3.8 centimetres a year, measured with mirrors that Apollo crews left there.",
      "Jupiter has more mass than all the other planets of the solar system together.",
      "The Great Red Spot of Jupiter is a storm wider than the Earth, and has shrunk since it was first measured.",
      "Saturn's mean density is lower than that of water.",
      "Uranus lies on its side: its axis is tilted by about 98 degrees against its orbit.",
      "Neptune was found in 1846 within one degree of the place that calculation had predicted.",
      "Olympus Mons on Mars, some 22 kilometres high, is the tallest volcano known on any planet.",
      "All the asteroids between Mars and Jupiter together weigh less than the Moon.",
      "A solar eclipse can be total because the Sun is about 400 times as wide as the Moon and about 400 times as far away.",
    ],
  },
  {
    id: "sea",
    title: "The ocean",
    facts: [
      "The ocean covers about 71 percent of the Earth's surface.",
      "Tides rise and fall chiefly because the Moon pulls on the near side of the ocean more strongly than on the far side.",
      "Spring tides come at new and full moon, when the pulls of the Sun and the Moon add up.",
      "The Bay of Fundy in Canada has the highest tides of the world, up to about 16 metres.",
      "The Challenger Deep in the Mariana Trench, nearly 11 kilometres down, is the deepest place known in the ocean.",
      "Sea water is salty mainly because rivers carry dissolved minerals from rocks into the sea.",
      "Coral reefs cover less than one percent of the sea floor and shelter about a quarter of all marine species.",
      "Corals bleach when water that is too warm makes them expel the algae that feed them.",
      "Microscopic algae in the ocean produce roughly half of the oxygen that living things release each year.",
      "The Gulf Stream carries warm water from the Gulf of Mexico across the Atlantic towards Europe.",
      "Sound travels more than four times as fast in sea water as in air.",
      "A tsunami crosses the deep ocean at the speed of an airliner, in waves less than a metre high that rise near the shore.",
    ],
  },
  {
    id: "life",
    title: "Living things",
    facts: [
      "Honeybees tell each other the direction and distance of flowers by a waggling dance.",
      "An octopus has three hearts and blue blood, which carries oxygen with copper instead of iron.",
      "The blue whale is the largest animal known to have lived, and feeds mainly on krill.",
      "Arctic terns fly from the Arctic to the Antarctic and back each year, the longest migration known.",
      "Tardigrades survive drying out, and some of them survived open space for days.",
      "Bats are the only mammals that fly by flapping their wings.",
      "Fungi are more closely related to animals than to plants.",
      "Bamboo is a grass, and some kinds of it grow more than 90 centimetres in a day.",
      "Bristlecone pines in California have lived for more than 4,800 years.",
      "A hummingbird can hover because its wings give lift on the up stroke as well as on the down stroke.",
      "Salmon find the river in which they hatched by its smell.",
      "Most of the flowering plants on land are pollinated by animals, above all by insects.",
    ],
  },
  {
    id: "machines",
    title: "Machines that compute",
    facts: [
      "The Antikythera mechanism, a Greek device of bronze gears more than 2,000 years old, predicted eclipses.",
      "Ada Lovelace published in 1843 a method by which Babbage's Analytical Engine could compute Bernoulli numbers.",
      "Charles Babbage's Analytical Engine was never completed.",
      "Alan Turing described in 1936 a universal machine that can imitate every other computing machine.",
      "Colossus, which Tommy Flowers built in 1943, helped Bletchley Park to break the Lorenz cipher.",
      "The transistor was invented at Bell Labs in 1947.",
      "Grace Hopper's A-0 system of 1952 was among the first compilers.",
      "The Apollo Guidance Computer kept its programs in core rope memory, woven by hand.",
      "The first message on the ARPANET, in 1969, was meant to be LOGIN; the system crashed after its first two letters.",
      "Diffie and Hellman published public-key exchange in 1976.",
      "Tim Berners-Lee proposed the World Wide Web at CERN in 1989.",
      "The Kocher paper of 1996 showed that the time a cipher takes can give its key away.",
    ],
  },
  {
    id: "earth",
    title: "The ground and the weather",
    facts: [
      "Mount Everest grows by a few millimetres a year, because India is still pushing into Asia.",
      "The inner core of the Earth is solid, though it is about as hot as the surface of the Sun.",
      "The Sahara was green with lakes and grassland until about 5,000 years ago.",
      "Dust from the Sahara crosses the Atlantic and brings phosphorus to the Amazon forest.",
      "The Amazon carries more water to the sea than any other river.",
      "Antarctica is the largest desert of the Earth, for little snow falls on it.",
      "Lightning heats the air around it to about 30,000 kelvin, and thunder is that air expanding.",
      "A rainbow is centred on the point opposite the Sun, so each observer sees a rainbow of their own.",
      "Snow crystals have six sides because water molecules bind in hexagons when they freeze.",
      "Iceland lies on the Mid-Atlantic Ridge, where two plates of the crust move apart by about two centimetres a year.",
      "The Earth's magnetic poles have changed places many times, last about 780,000 years ago.",
      "Monsoon winds blow because land warms faster in summer than the ocean does.",
    ],
  },
];
