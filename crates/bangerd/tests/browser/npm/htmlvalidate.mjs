// What html-validate is to look for in the console's pages: all of the standard's rules.
export default {
  extends: ["html-validate:standard"],
};
