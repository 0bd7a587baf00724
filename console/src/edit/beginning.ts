// Tells beginnings of sentences, which models without a chat go on with, from questions.

const words = (text: string) => new Set(text.split(" "));
/** Words after which a sentence goes on. */
const OPEN = words("a an and as at after before by called for from in into is are was were named of on than that the to with");
/** Of these a question that is typed without its mark may not end with any either. */
const OPEN_IN_QUESTIONS = words("a an and of than the");
const ASKING = words(
  "what what's who who's whom whose which when where where's why how how's is are was were do does did can could may might must shall should will would has have had tell give name list explain",
);
const SAYING = words("is are was were has had used plays played lives lived grew became belongs begins ends took lies");

/** Return whether a text is the beginning of a sentence; by its words, for texts in English. */
export function isBeginning(text: string): boolean {
  const all = text.trim().split(/\s+/);
  const [first, last] = [all[0]!.toLowerCase(), all[all.length - 1]!.toLowerCase()];
  if (all.length < 3 || !/[\p{L}\p{N}]$/u.test(last)) return false;
  if (ASKING.has(first) || /^(in|at|on|of|for|to|from|by|with) (what|which|whom|whose|how)\b/i.test(text.trim()))
    return OPEN_IN_QUESTIONS.has(last);
  if (OPEN.has(last)) return true;
  return /^\p{Lu}/u.test(text.trim()) && all.slice(1).some((word) => SAYING.has(word.toLowerCase()));
}
